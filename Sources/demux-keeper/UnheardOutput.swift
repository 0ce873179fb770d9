import Platform

/// What programs write while there is no coordinator that would read it: read here, so that none of them waits for somebody who does not come.
final class UnheardOutput {
    /// Lines of one absence that are said; the others are only counted.
    private static let most = 500

    private let loop: EventLoop
    private var lines: [CInt: OutputLines] = [:]
    private var said = 0

    init(_ loop: EventLoop) { self.loop = loop }

    /// Reads these pipes from now on.
    func begin(_ pipes: [CInt]) {
        said = 0
        for raw in pipes where lines[raw] == nil {
            lines[raw] = OutputLines()
            do { try loop.watch(raw, for: .readable) { [unowned self] _ in self.read(raw) } } catch { lines[raw] = nil }
        }
    }

    /// A coordinator reads them again.
    func end() {
        for raw in lines.keys { forget(raw) }
        if said > Self.most { StandardError.line("demux-keeper: (\(said - Self.most) lines of programs left out)") }
        said = 0
    }

    private func read(_ raw: CInt) {
        if case .end? = lines[raw]?.read(raw, tell: say) { forget(raw) }
    }

    private func forget(_ raw: CInt) {
        loop.forget(raw)
        lines[raw]?.finish(tell: say)
        lines[raw] = nil
    }

    private func say(_ line: String) {
        said += 1
        if said <= Self.most { StandardError.line("demux-keeper: while there is no coordinator, a program says: \(line)") }
    }
}
