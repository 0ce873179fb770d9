import Glibc
import Platform

/// What one process of an emulator writes to its standard output and error: a pipe that the coordinator reads, never waiting for it.
///
/// The keeper holds the reading end as well, so that a process can write while there is no coordinator, and the next one reads on.
final class EmulatorOutput {
    /// How much is read at its end: more than a pipe holds, and not without end when somebody else has it and goes on writing.
    private static let mostAtEnd = 64

    private let loop: EventLoop
    private let pipe: OwnedDescriptor
    private var lines = OutputLines()
    private let tell: (String) -> Void
    private var isWatched = false
    /// The last line: of one that has ended without a word to the coordinator, the best reason there is.
    private(set) var last: String?

    /// - Parameters:
    ///   - pipe: the reading end.
    ///   - tell: gets each line, fit to be shown.
    init(loop: EventLoop, pipe: consuming OwnedDescriptor, tell: @escaping (String) -> Void) throws(SystemError) {
        self.loop = loop
        self.pipe = pipe
        self.tell = tell
        try self.pipe.setNonBlocking(true)
        try loop.watch(self.pipe.raw, for: .readable) { [weak self] _ in self?.read() }
        isWatched = true
    }

    deinit { forget() }

    var descriptor: CInt { pipe.raw }

    /// The process has ended: takes what it wrote before.
    func drain() {
        for _ in 0..<Self.mostAtEnd {
            guard case .something = lines.read(pipe.raw, tell: take) else { break }
        }
        lines.finish(tell: take)
        forget()
    }

    private func read() {
        // Once in each turn of the loop, so that one that writes without pause keeps nobody waiting.
        guard case .end = lines.read(pipe.raw, tell: take) else { return }
        lines.finish(tell: take)
        forget()
    }

    private func take(_ line: String) {
        last = line
        tell(line)
    }

    private func forget() {
        if isWatched { loop.forget(pipe.raw) }
        isWatched = false
    }
}
