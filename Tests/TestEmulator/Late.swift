import EmulatorKit

/// Answers late: a read of its first port waits until something is written to the second, and then gives that.
struct Late: Emulator {
    static let name = "late"
    private var held: [Token] = []

    init(_ setup: inout Setup) throws(SetupError) {
        _ = try setup.claim(ports: try setup.port("ports", default: 0x620), count: 4, label: "late")
    }

    mutating func read(_ access: Access, _ context: borrowing Context) -> Answer {
        guard access.offset == 0 else { return .value(UInt64(held.count)) }
        held.append(context.token)
        return .later
    }

    mutating func write(_ access: Access, _ value: UInt64, _ context: borrowing Context) -> Answer {
        for token in held { context.complete(token, value) }
        held = []
        return .done
    }
}
