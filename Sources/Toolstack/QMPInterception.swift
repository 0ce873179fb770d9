import Platform

/// What stands in one connection's way when commands are decided on: it keeps a command back until it is whole, lets QEMU have it
/// or puts the answer among QEMU's replies at the right place.
///
/// QEMU answers in order, so the answer to a command is due once every command passed on before it has been replied to.
struct QMPInterception {
    private struct Answer {
        let bytes: [UInt8]
        /// How many replies of QEMU's come before it.
        let after: UInt64
    }

    private let connection: Int
    private let decide: (QMPCommand) -> QMPVerdict
    private var commands = QMPScanner(limit: QMPFacade.commandLimit)
    /// A command that has begun and not ended.
    private var pending = RelayBuffer()
    private var replies = QMPScanner(limit: 1 << 20)
    private var passed: UInt64 = 0
    private var replied: UInt64 = 0
    private var answers: [Answer] = []
    /// An object of QEMU's has ended, its line not yet: a message is cut off at the line's end.
    private var awaitsLineEnd = false
    /// The command in `pending` is whole, and its verdict still to come.
    private(set) var waiting: QMPDeferral?
    /// What the client sent after that command.
    private var leftover: (bytes: [UInt8], bag: DescriptorBag)?
    /// Who wants a reply of QEMU's, by its number.
    private var watchers: [(reply: UInt64, take: QMPWatch)] = []
    /// Replies that somebody wants, to be handed over outside of this value.
    private var due: [() -> Bool] = []

    init(connection: Int, decide: @escaping (QMPCommand) -> QMPVerdict) {
        self.connection = connection
        self.decide = decide
    }

    /// Bytes of answers that are not due yet.
    private(set) var answersHeld = 0

    /// Bytes of a command kept back.
    var held: Int { pending.count + (leftover?.bytes.count ?? 0) }

    /// Whether nothing more is to be read from the client for now.
    var isWaiting: Bool { waiting != nil }

    /// Sorts what the client sent.
    mutating func clientSent(
        _ bytes: [UInt8], _ bag: DescriptorBag, to up: inout RelayBuffer, replies down: inout RelayBuffer, observe: (QMPCommand) -> Void
    ) {
        let items = commands.feed(bytes[...])
        // The kernel joins earlier bytes to those that descriptors came with, never later ones: they belong to the last command that
        // begins here, or to the one that goes on.
        let owner = commands.isInside ? commands.openStart ?? 0 : items.last?.start ?? 0
        var position = 0
        func take(_ range: Range<Int>, into buffer: inout RelayBuffer) {
            guard !range.isEmpty else { return }
            if range.contains(owner), bag.count > 0, range.lowerBound < owner {
                buffer.append(bytes[range.lowerBound..<owner])
                buffer.append(bytes[owner..<range.upperBound], descriptors: bag)
            } else {
                buffer.append(bytes[range], descriptors: range.contains(owner) ? bag : nil)
            }
        }
        for item in items {
            if let start = item.start {
                // Something begun before was given up on: QEMU shall see it as it is.
                pending.move(to: &up)
                take(position..<start, into: &up)
                position = start
            }
            take(position..<item.end, into: &pending)
            position = item.end
            let command = item.bytes.flatMap(JSONValue.init(parsing:)).flatMap {
                QMPCommand($0, connection: connection, descriptors: pending.descriptors)
            }
            if let command { observe(command) }
            guard apply(command.map(decide) ?? .pass, to: &up, replies: &down) else {
                leftover = (Array(bytes[item.end...]), owner >= item.end ? bag : DescriptorBag())
                commands = QMPScanner(limit: QMPFacade.commandLimit)
                return
            }
        }
        if commands.isInside, let start = commands.openStart {
            pending.move(to: &up)
            take(position..<start, into: &up)
            take(start..<bytes.count, into: &pending)
        } else {
            take(position..<bytes.count, into: &pending)
        }
        if !commands.isInside || commands.isOverLimit { pending.move(to: &up) }
    }

    /// Does what was decided with the command in `pending`; false when that has to wait.
    private mutating func apply(_ verdict: QMPVerdict, to up: inout RelayBuffer, replies down: inout RelayBuffer) -> Bool {
        switch verdict {
        case .pass:
            passed &+= 1
            pending.move(to: &up)
        case .watch(let take):
            watchers.append((passed, take))
            passed &+= 1
            pending.move(to: &up)
        case .replace(let bytes, let take):
            if let take { watchers.append((passed, take)) }
            passed &+= 1
            up.append(bytes[...], descriptors: pending.takeDescriptors())
            pending.removeAll()
        case .answer(let answer):
            pending.removeAll()
            answers.append(Answer(bytes: answer, after: passed))
            answersHeld += answer.count
            if !replies.isInside, !awaitsLineEnd { deliver(to: &down) }
        case .later(let deferral):
            if let verdict = deferral.verdict { return apply(verdict, to: &up, replies: &down) }
            waiting = deferral
            return false
        }
        return true
    }

    /// Goes on once what `waiting` waited for is known.
    mutating func resume(to up: inout RelayBuffer, replies down: inout RelayBuffer, observe: (QMPCommand) -> Void) {
        guard let verdict = waiting?.verdict else { return }
        waiting = nil
        guard apply(verdict, to: &up, replies: &down), let rest = leftover else { return }
        leftover = nil
        clientSent(rest.bytes, rest.bag, to: &up, replies: &down, observe: observe)
    }

    /// Hands over replies that somebody wants and that have come; to be called when this value is not being changed, and before they go on.
    mutating func takeDue() -> [() -> Bool] {
        defer { due = [] }
        return due
    }

    /// The connection ends: those who still wait for a reply, to be told so.
    mutating func abandon() -> [() -> Bool] {
        let lost = watchers.map { watcher in { watcher.take(.null) } }
        watchers = []
        waiting = nil
        return takeDue() + lost
    }

    /// Lets go of what is kept back: the client has ended in the middle of a command.
    mutating func giveUp(to up: inout RelayBuffer) { pending.move(to: &up) }

    /// Takes what QEMU sent on to the client, with the answers that are due in between.
    mutating func serverSent(_ bytes: [UInt8], _ bag: DescriptorBag, to down: inout RelayBuffer) {
        let items = replies.feed(bytes[...])
        var position = 0
        var next = 0
        // The end of a message is the end of the line in which its object ended.
        while awaitsLineEnd || next < items.count {
            if !awaitsLineEnd {
                count(items[next])
                next += 1
            }
            let from = next > 0 ? max(position, items[next - 1].end) : position
            guard let newline = bytes[from...].firstIndex(of: UInt8(ascii: "\n")) else { break }
            awaitsLineEnd = false
            while next < items.count, items[next].end <= newline {
                count(items[next])
                next += 1
            }
            awaitsLineEnd = false
            down.append(bytes[position...newline], descriptors: position == 0 ? bag : nil)
            position = newline + 1
            deliver(to: &down)
        }
        while next < items.count {
            count(items[next])
            next += 1
        }
        down.append(bytes[position...], descriptors: position == 0 ? bag : nil)
    }

    private mutating func count(_ item: QMPScanner.Item) {
        awaitsLineEnd = true
        guard Self.isReply(item) else { return }
        if let first = watchers.first, first.reply == replied {
            watchers.removeFirst()
            let reply = item.bytes.flatMap(JSONValue.init(parsing:)) ?? .null
            due.append { first.take(reply) }
        }
        replied &+= 1
    }

    /// Adds the answers that are due; only between two messages of QEMU's.
    private mutating func deliver(to down: inout RelayBuffer) {
        while let first = answers.first, first.after <= replied {
            down.append(first.bytes[...])
            answersHeld -= first.bytes.count
            answers.removeFirst()
        }
    }

    /// Whether an object of QEMU's answers a command; its greeting and its events do not.
    private static func isReply(_ item: QMPScanner.Item) -> Bool {
        // Nothing but a reply is longer than the limit.
        guard let bytes = item.bytes, let object = JSONValue(parsing: bytes) else { return true }
        return object["return"] != nil || object["error"] != nil
    }
}
