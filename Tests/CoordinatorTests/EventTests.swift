import EmulatorProtocol
import Logging
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

    @Test("refusals that come too fast are held back, as other lines of an emulator are")
    func limited() {
        let book = book
        for _ in 0..<2000 { book.refused("a", Refusal(.clash, asked: "ports", message: "taken"), quietly: true) }
        #expect(lines.lines.count < 700)
    }
}
