import EmulatorProtocol
import Glibc
import Host

/// Serves its slots with one lapse, always the same: "forgets" to ring for what it has answered, leaves a slot in state "seven" with or without
/// ringing ("seven-rings"), "keeps" a request in progress although it has its answer, or "rings" without answering at all.
enum Lapse {
    /// What every read gives that is answered.
    private static let answer: UInt64 = 0x5a

    /// - Parameter words: the lapse; "pointers" to be given the host's own pages on LocalHost; and a path: the first process leaves a file there, and
    ///   those that find it serve without a lapse.
    static func run(_ words: [String]) -> Never {
        let path = words.first { $0.hasPrefix("/") }
        let isReformed = path.map { access($0, F_OK) == 0 } ?? false
        if let path, !isReformed { close(open(path, O_CREAT | O_WRONLY, 0o600)) }
        let wire = Wire()
        var channel = wire.start(capabilities: words.contains("pointers") ? ["data-pointer"] : [])
        let lapse = isReformed ? "" : words.first ?? ""
        while true {
            for slot in 0..<channel.vcpuCount { serve(slot, channel, lapse) }
            var waits = [
                pollfd(fd: channel.waitDescriptor, events: Int16(POLLIN), revents: 0), pollfd(fd: 3, events: Int16(POLLIN), revents: 0),
            ]
            poll(&waits, 2, -1)
            if waits[0].revents != 0 { _ = channel.acknowledge() }
            guard waits[1].revents != 0 else { continue }
            let packet = wire.hear()
            guard case .quit = packet.body else { continue }
            wire.say(.ok(Reply()), re: packet.id)
            exit(0)
        }
    }

    private static func serve(_ slot: Int, _ channel: borrowing EventFDChannel, _ lapse: String) {
        guard channel.slots.state(slot) == .ready || channel.slots.state(slot) == .inProcess else { return }
        switch lapse {
        case "rings": channel.notify(slot)
        case "keeps":
            _ = channel.slots.take(slot)
            channel.notify(slot)
        case "seven", "seven-rings":
            channel.slots.force(slot, rawState: 7)
            if lapse == "seven-rings" { channel.notify(slot) }
        default:
            _ = channel.slots.take(slot)
            channel.slots.complete(slot, data: answer)
            if lapse != "forgets" { channel.notify(slot) }
        }
    }
}
