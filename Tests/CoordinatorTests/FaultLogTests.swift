import Logging
import Platform
import Testing

@testable import Coordinator

@Suite("Faults of a peer")
struct FaultLogTests {
    private func logBook() -> LogBook {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        return LogBook(logger: logger)
    }

    @Test("each is counted, and one line in ten seconds says how many there were")
    func limited() {
        let book = logBook()
        let faults = FaultLog(emulator: "x")
        #expect(faults.counts == nil)
        for time in 0..<25 { faults.note(.malformedMessage, "it sent \u{1b}[2J", in: book, now: UInt64(time) * 1_000_000_000) }
        faults.note(.forgottenBell, "it forgot", in: book, now: 25_000_000_000)
        #expect(faults.counts == ["malformed-message": 25, "forgotten-bell": 1])
        let lines = book.last(100).map { $0.split(separator: ": ", maxSplits: 1).last.map(String.init) ?? "" }
        #expect(
            lines == [
                "emulator 'x': it sent \\x1b[2J", "emulator 'x': it sent \\x1b[2J (and 9 more since the last such line)",
                "emulator 'x': it sent \\x1b[2J (and 9 more since the last such line)", "emulator 'x': it forgot",
            ])
    }

    @Test("an answer that two looks of a relay find was not rung for; another request's is not the same")
    func rounds() {
        var rounds = RelayRounds()
        #expect(rounds.look([.init(slot: 0, serial: 1), .init(slot: 2, serial: 7)]) == [])
        #expect(rounds.look([.init(slot: 0, serial: 2), .init(slot: 2, serial: 7)]) == [.init(slot: 2, serial: 7)])
        #expect(rounds.look([]) == [])
        #expect(rounds.look([.init(slot: 2, serial: 7)]) == [])
    }
}
