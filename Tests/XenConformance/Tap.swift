import Glibc

/// The Test Anything Protocol on standard output, plan last.
final class Tap {
    private(set) var count = 0
    private(set) var failed = 0

    /// One result. `detail` is shown when it failed.
    func check(_ sentence: String, _ good: Bool, _ detail: @autoclosure () -> String = "") {
        count += 1
        Self.line("\(good ? "ok" : "not ok") \(count) - \(sentence)")
        if !good {
            failed += 1
            let words = detail()
            if !words.isEmpty { note(words) }
        }
    }

    func equal<Value: Equatable>(_ sentence: String, _ got: Value, _ wanted: Value) {
        check(sentence, got == wanted, "got \(got), wanted \(wanted)")
    }

    /// A case that throws fails, with the error as its detail.
    func attempt(_ sentence: String, _ body: () throws -> Void) {
        do { try body() } catch { check(sentence, false, "\(error)") }
    }

    func note(_ words: String) {
        for line in words.split(separator: "\n", omittingEmptySubsequences: false) { Self.line("# \(line)") }
    }

    /// Counts results that were printed already.
    func add(_ results: (count: Int, failed: Int)) {
        count += results.count
        failed += results.failed
    }

    func plan() { Self.line("1..\(count)") }

    /// At once, so that what is known stays known when a case hangs.
    static func line(_ words: String) {
        let bytes = Array("\(words)\n".utf8)
        _ = write(1, bytes, bytes.count)
    }
}
