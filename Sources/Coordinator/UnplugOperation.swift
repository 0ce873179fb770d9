import EmulatorProtocol
import Host
import Platform

/// QEMU's part of unplugging, for whoever owns QEMU.
public protocol UnplugPartner: AnyObject {
    /// Has QEMU remove its devices of these classes, and looks what is left.
    /// - Parameter done: called once, with the names of what is gone, or with why something is not.
    func unplug(_ classes: Set<UnplugClass>, deadline: Duration, _ done: @escaping (Result<[String], UnplugTrouble>) -> Void)
    /// Says what would go.
    func candidates(_ classes: Set<UnplugClass>, _ done: @escaping (Result<[String], UnplugTrouble>) -> Void)
    /// Makes the guest's ROM area read-only, or writable again.
    /// - Parameter done: called once, never from inside.
    func lockROM(_ locked: Bool, _ done: @escaping () -> Void)
}

/// Why somebody's devices stay plugged.
public struct UnplugTrouble: Error, Equatable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}

/// Everybody concerned is asked at the same time to remove devices; ends when all have answered, or at the deadline.
final class UnplugOperation {
    let classes: Set<UnplugClass>
    private let loop: EventLoop
    private let deadline: Duration
    private var timer: EventLoop.Timer?
    private(set) var waiting: Set<String> = []
    private(set) var obeyed: Set<String> = []
    /// Why somebody's devices may still be there.
    private(set) var failures: [String: String] = [:]
    /// Why those are waited for that died and get a successor.
    private var lostOnes: [String: String] = [:]
    /// Called with each answer, late ones included: who, and what they removed or why not.
    private let heard: (String, Result<[String], UnplugTrouble>) -> Void
    private var done: (() -> Void)?
    /// Whether another process is about to take one's place: it starts without what is unplugged.
    private let isBeingReplaced: (EmulatorSession) -> Bool

    /// - Parameter done: called once, never from inside `ask`.
    init(
        _ classes: Set<UnplugClass>, loop: EventLoop, deadline: Duration, isBeingReplaced: @escaping (EmulatorSession) -> Bool,
        heard: @escaping (String, Result<[String], UnplugTrouble>) -> Void, done: @escaping () -> Void
    ) {
        self.isBeingReplaced = isBeingReplaced
        self.classes = classes
        self.loop = loop
        self.deadline = deadline
        self.heard = heard
        self.done = done
    }

    /// Asks.
    /// - Parameter QEMU: nil for a guest without one.
    func ask(_ sessions: [EmulatorSession], qemu: (any UnplugPartner)?) {
        // All are noted before the first is asked: one that answers at once must not end it.
        waiting = Set(sessions.map { "\($0.owner)" } + (qemu == nil ? [] : ["QEMU"]))
        guard !waiting.isEmpty else { return loop.soon { self.end() } }
        timer = loop.after(deadline) { [weak self] in self?.tooLate() }
        for session in sessions {
            let who = "\(session.owner)"
            session.unplug(classes) { answer in
                guard case .failure(let trouble) = answer, session.isGone else { return self.take(who, answer) }
                // Whether it gets a successor is decided when it is known to have died.
                self.loop.soon { self.lost(session, trouble) }
            }
        }
        qemu?.unplug(classes, deadline: deadline) { self.take("QEMU", $0) }
    }

    /// Somebody has no such devices any more, whatever was heard of them: they were taken away, or began anew without.
    func settle(_ who: String, removed: [String] = []) { take(who, .success(removed)) }

    /// One died before it answered. Its successor, which starts without the devices, is waited for as it would have been.
    private func lost(_ session: EmulatorSession, _ trouble: UnplugTrouble) {
        let who = "\(session.owner)"
        guard waiting.contains(who) else { return }
        if isBeingReplaced(session) { lostOnes[who] = trouble.description } else { take(who, .failure(trouble)) }
    }

    private func take(_ who: String, _ answer: Result<[String], UnplugTrouble>) {
        let wasAwaited = waiting.remove(who) != nil
        switch answer {
        case .success:
            failures[who] = nil
            obeyed.insert(who)
        case .failure(let trouble):
            // One that died is told of again by its successor; a deadline that has passed says it all.
            guard wasAwaited else { return }
            failures[who] = trouble.description
        }
        heard(who, answer)
        if waiting.isEmpty { loop.soon { self.end() } }
    }

    private func tooLate() {
        let limit = "within \(deadline.clampedNanoseconds / 1_000_000) ms"
        for who in waiting { failures[who] = lostOnes[who].map { "\($0), and no successor served \(limit)" } ?? "no answer \(limit)" }
        let silent = waiting
        waiting = []
        for who in silent.sorted() { heard(who, .failure(UnplugTrouble(failures[who] ?? ""))) }
        end()
    }

    private func end() {
        if let timer { loop.cancel(timer) }
        timer = nil
        let done = done
        self.done = nil
        done?()
    }
}

extension EmulatorSession {
    /// Whether its devices are in front of the guest and of one of these classes.
    func isConcerned(by classes: Set<UnplugClass>) -> Bool {
        isStarting && !hasExited && mode != .exporter && !unplugClasses.isDisjoint(with: classes)
    }

    /// Whether it has died, and another process will take its place.
    var isBeingReplaced: Bool {
        if case .restarting? = restartStatus { true } else { restartTimer != nil }
    }

    /// Has it remove its devices of these classes.
    func unplug(_ classes: Set<UnplugClass>, _ answer: @escaping (Result<[String], UnplugTrouble>) -> Void) {
        // It is asked in its own words.
        let asked = specification.unplugAs == nil ? classes.intersection(declaredUnplugClasses) : declaredUnplugClasses
        ask(.unplug(Unplug(classes: asked.ordered))) { reply in
            switch reply {
            case .success(let reply):
                answer(.success((reply.removed ?? []).prefix(32).map { PrintableText.escaped(String($0.unicodeScalars.prefix(64))) }))
            case .failure(let refusal): answer(.failure(UnplugTrouble(PrintableText.escaped(refusal.message))))
            }
        }
    }
}
