import Glibc
import Platform
import Testing

@Suite("The event loop")
struct EventLoopTests {
    /// Does more and more of its own, as a peer that always has more to say makes a handler do.
    private final class Endless {
        let loop: EventLoop
        private(set) var runs = 0
        let again: (EventLoop, @escaping () -> Void) -> Void

        init(_ loop: EventLoop, again: @escaping (EventLoop, @escaping () -> Void) -> Void) {
            self.loop = loop
            self.again = again
        }

        func run() {
            runs += 1
            // What would never end ends here, and is seen by what has not been served.
            if runs < 10_000 { again(loop) { self.run() } }
        }
    }

    @Test("work that always queues more of itself lets descriptors and deadlines have their turn")
    func endlessWork() throws {
        for again in [{ loop, action in loop.soon(action) }, { loop, action in _ = loop.after(.zero, action) }] as [(EventLoop, @escaping () -> Void) -> Void] {
            let loop = try EventLoop()
            let bell = try EventFD()
            var heard = 0
            try loop.watch(bell.descriptor.raw, for: .readable) { _ in
                bell.clear()
                heard += 1
            }
            var isLate = false
            loop.after(.nanoseconds(1)) { isLate = true }
            let endless = Endless(loop, again: again)
            endless.run()
            for turn in 1...5 {
                bell.ring()
                try loop.turn(limit: .zero)
                #expect(heard == turn)
            }
            #expect(isLate)
            #expect(endless.runs < 10, "it ran \(endless.runs) times in 5 turns")
        }
    }

    @Test("queued work is done without waiting, and in the order in which it was asked for")
    func order() throws {
        let loop = try EventLoop()
        var done: [String] = []
        loop.soon {
            done.append("first")
            loop.soon {
                done.append("third")
                loop.stop()
            }
        }
        loop.soon { done.append("second") }
        try loop.run()
        #expect(done == ["first", "second", "third"])
    }

    @Test("a deadline that another one calls off in the same turn does not run")
    func calledOff() throws {
        let loop = try EventLoop()
        var ran = false
        var second: EventLoop.Timer?
        loop.after(.zero) { if let second { loop.cancel(second) } }
        second = loop.after(.zero) { ran = true }
        loop.after(.zero) { loop.stop() }
        try loop.run()
        #expect(!ran)
    }
}
