import EmulatorProtocol
import Logging
import Platform
import Synchronization
import Testing

@testable import Coordinator

/// Keeps what swift-log was told.
private final class Lines: LogHandler, @unchecked Sendable {
    // Sendable: changed before it is shared, and by one thread.
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace
    private let kept = Mutex<[(text: String, metadata: Logger.Metadata)]>([])
    var lines: [(text: String, metadata: Logger.Metadata)] { kept.withLock { $0 } }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { kept.withLock { $0.append(("\(event.message)", event.metadata ?? [:])) } }
}

@Suite("Events in the guest's log")
struct EventTests {
    private let lines = Lines()
    private var book: LogBook { LogBook(logger: Logger(label: "test") { [lines] _ in lines }) }

    @Test("an event is one line for a person, and has its fields for a program")
    func event() {
        let book = book
        book.note(.error, "emulator 'a' hangs", event: .hung, ["emulator": "a", "slot": "3"])
        #expect(book.last(10).count == 1 && book.last(10)[0].hasSuffix("error demux: emulator 'a' hangs"))
        #expect(lines.lines.map(\.metadata) == [["event": "hung", "emulator": "a", "slot": "3"]])
    }

    @Test("what an emulator has a say in is escaped in the fields too")
    func escaped() {
        book.refused("a", Refusal(.clash, asked: "ports\n1", message: "taken"), quietly: false)
        #expect(lines.lines.first?.metadata["asked"] == "ports\\x0a1" && lines.lines.first?.metadata["event"] == "refusal")
    }

    @Test("what the coordinator says of a stranger's words is escaped and cut as well")
    func quoted() {
        let book = book
        let said = "no\n2026-01-01T00:00:00+0000 info demux: all is well\u{1b}]0;pwned\u{7}" + String(repeating: "x", count: 65_536)
        book.note(.error, "emulator 'a' did not start: \(said)")
        book.note(.error, "emulator 'a' ended", event: .exit, ["reason": said])
        for line in book.last(10) + lines.lines.map(\.text) + lines.lines.map({ "\($0.metadata)" }) {
            #expect(!line.unicodeScalars.contains { PrintableText.isControl($0) } && line.utf8.count < 5000, "\(line.prefix(80))")
        }
        #expect(lines.lines.first?.text.hasPrefix("emulator 'a' did not start: no\\x0a2026-01-01") == true)
    }

    @Test("what an emulator can have said again and again is held back, and nothing else is")
    func limitedNotes() {
        let book = book
        for _ in 0..<2000 { book.note(.warning, "'a' does not take its page", becauseOf: "a") }
        #expect(lines.lines.count < 700)
        book.record(source: "a", level: .info, text: "its own words")
        book.note(.error, "the coordinator's own")
        #expect(lines.lines.suffix(2).map(\.text) == ["a: its own words", "the coordinator's own"])
    }

    @Test("refusals that come too fast are held back, as other lines of an emulator are")
    func limited() {
        let book = book
        for _ in 0..<2000 { book.refused("a", Refusal(.clash, asked: "ports", message: "taken"), quietly: true) }
        #expect(lines.lines.count < 700)
    }
}
