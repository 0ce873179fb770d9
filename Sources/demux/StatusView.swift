import ControlProtocol
import Host

/// A guest's status as lines for a person.
struct StatusView {
    let status: GuestStatus
    /// An earlier status and the seconds since then, for what happens each second.
    var earlier: (status: GuestStatus, seconds: Double)?

    init(_ status: GuestStatus, earlier: (status: GuestStatus, seconds: Double)? = nil) {
        self.status = status
        self.earlier = earlier
    }

    func lines(style: Style = .plain) -> [String] {
        var lines = [heading]
        if let broken = status.broken { lines.append("BROKEN: " + Table.clean(broken)) }
        if let faults = status.faults { lines.append("control socket " + Table.clean(Self.faults(faults))) }
        lines.append("specification " + Table.clean(status.specification))
        if let qemu = status.qemu { lines.append("QEMU " + Table.clean("\(qemu.program), pid \(qemu.pid), \(qemu.state)")) }
        lines.append("")
        lines += emulators(style)
        if let display = status.display { lines += [""] + self.display(display, style) }
        if let vnc = status.vnc { lines += [""] + self.vnc(vnc, style) }
        if let unplug = status.unplug { lines += [""] + self.unplug(unplug, style) }
        let claims = claims(style)
        if !claims.isEmpty { lines += [""] + claims }
        if let slots = slots(style) { lines += [""] + slots }
        if !status.interpositions.isEmpty { lines += [""] + interpositions(style) }
        return lines
    }

    private var heading: String {
        let name = status.name.isEmpty ? "" : " '\(status.name)'"
        return Table.clean(
            "domain \(status.domain)\(name) on \(status.host), \(status.vcpus) vCPU\(status.vcpus == 1 ? "" : "s"), "
                + "coordinator pid \(status.coordinatorPID)"
                + (status.adoptions.map { ", adopted \($0) time\($0 == 1 ? "" : "s")" } ?? ""))
    }

    private func emulators(_ style: Style) -> [String] {
        guard !status.emulators.isEmpty else { return ["no emulators beside QEMU"] }
        // Counters that stand for trouble or for something rare get a column only when there is any.
        let rare: [(Counter, String)] = [
            (.buffered, "RING"), (.deferred, "DEFERRED"), (.invalidations, "INVALIDATE"), (.timeOffsets, "TIMEOFFSET"), (.malformed, "MALFORMED"),
            (.spurious, "SPURIOUS"),
        ]
        let shown = rare.filter { counter, _ in status.emulators.contains { $0.count(counter) > 0 } }
        var columns: [Table.Column] = [
            .init("EMULATOR"), .init("PID", .right), .init("STATE"), .init("MODE"), .init("SERVER", .right), .init("REQUESTS", .right),
        ]
        if earlier != nil { columns.append(.init("PER SECOND", .right)) }
        let restarted = status.emulators.contains { ($0.restarts ?? 0) > 0 }
        if restarted { columns.insert(.init("RESTARTS", .right), at: 3) }
        let parked = status.emulators.contains { ($0.parked ?? 0) > 0 }
        // What the coordinator answered in an emulator's place.
        if parked { columns.append(.init("PARKED", .right)) }
        // What an emulator did against the protocol; the log says what.
        let faulty = status.emulators.contains { $0.faults != nil }
        if faulty { columns.append(.init("FAULTS")) }
        columns += [.init("PORTS R/W", .right), .init("MMIO R/W", .right), .init("CONFIG R/W", .right)]
        columns += shown.map { .init($0.1, .right) }
        var table = Table(columns)
        for emulator in status.emulators {
            var cells = [
                emulator.name, emulator.pid > 0 ? "\(emulator.pid)" : "-", emulator.state, emulator.mode,
                emulator.server.map { "\($0)" } ?? "-", "\(emulator.count(.requests))",
            ]
            if earlier != nil { cells.append(rate(of: emulator)) }
            if restarted { cells.insert("\(emulator.restarts ?? 0)", at: 3) }
            if parked { cells.append("\(emulator.parked ?? 0)") }
            if faulty { cells.append(Self.faults(emulator.faults)) }
            cells += [
                "\(emulator.count(.portReads))/\(emulator.count(.portWrites))",
                "\(emulator.count(.memoryReads))/\(emulator.count(.memoryWrites))",
                "\(emulator.count(.configReads))/\(emulator.count(.configWrites))",
            ]
            cells += shown.map { "\(emulator.count($0.0))" }
            table.add(cells)
        }
        return table.lines(style: style)
    }

    /// As in "forgotten-bell 3, malformed-message 1".
    private static func faults(_ faults: [String: UInt64]?) -> String {
        guard let faults else { return "-" }
        return faults.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
    }

    /// Requests a second since the earlier status; "-" for an emulator that was not there, or was another process.
    private func rate(of emulator: EmulatorStatus) -> String {
        guard let earlier, earlier.seconds > 0,
            let before = earlier.status.emulators.first(where: { $0.name == emulator.name && $0.pid == emulator.pid }),
            emulator.count(.requests) >= before.count(.requests)
        else { return "-" }
        let rate = Double(emulator.count(.requests) - before.count(.requests)) / earlier.seconds
        return "\(UInt64(rate.rounded()))"
    }

    /// The scan-out, and a line for each of its readers.
    private func display(_ display: DisplayStatus, _ style: Style) -> [String] {
        // Without a viewer the display does not tell of the guest's changes of mode.
        let isWatched = display.readers.contains { $0.viewers > 0 }
        var mode = isWatched ? "no mode yet" : "not looked at yet"
        if let width = display.width, let height = display.height {
            mode = "\(width)x\(height)" + (display.isBlank == true ? ", switched off" : "") + (isWatched ? "" : " when last looked at")
        }
        let emulator = display.emulator.map { "emulator '\($0)'" } ?? "its emulator was taken away"
        let heading = Table.clean("display \(mode), \(emulator), \(display.frames ?? 0) updates")
        guard !display.readers.isEmpty else { return [heading + ", nobody reads it"] }
        var table = Table([.init("READER", .right), .init("WHO"), .init("VIEWERS", .right), .init("AT MOST", .right)])
        for reader in display.readers { table.add(["\(reader.number)", reader.name, "\(reader.viewers)", "\(reader.maxRate)/s"]) }
        return [heading] + table.lines(style: style)
    }

    /// The exporter, and a line for each viewer.
    private func vnc(_ vnc: ExporterStatus, _ style: Style) -> [String] {
        var lines = [
            Table.clean(
                "VNC at \(vnc.addresses.isEmpty ? "no address" : vnc.addresses.joined(separator: ", ")), security \(vnc.authentication)"
                    + (vnc.isClosed ? ", nobody is let in: there is no password that is good now" : ""))
        ]
        if !vnc.statistics.isEmpty {
            lines.append(Table.clean(vnc.statistics.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")))
        }
        guard !vnc.clients.isEmpty else { return lines + ["no viewers"] }
        var table = Table([.init("VIEWER"), .init("SERVICE"), .init("FAMILY"), .init("SECURITY"), .init("WEBSOCKET"), .init("SHARED")])
        for client in vnc.clients {
            table.add([client.host, client.service, client.family, client.security, client.websocket ? "yes" : "no", client.shared ? "yes" : "no"])
        }
        return lines + table.lines(style: style)
    }

    /// What the guest has unplugged, and a line for each who had something to remove.
    private func unplug(_ unplug: UnplugStatus, _ style: Style) -> [String] {
        var heading = unplug.classes.isEmpty ? "nothing unplugged" : "unplugged " + unplug.classes.joined(separator: ", ")
        if let product = unplug.product { heading += "; the guest's driver is \(product)" + (unplug.build.map { " build \($0)" } ?? "") }
        if unplug.isBlacklisted { heading += ", which is blacklisted" }
        if unplug.isROMLocked { heading += "; the ROM area is locked" }
        heading += "; \(unplug.requests) requests, \(unplug.failures) not obeyed"
        var lines = [Table.clean(heading)]
        if !unplug.waitingFor.isEmpty {
            lines.append(Table.clean("the guest's write \(unplug.isHeld ? "is held until these obey" : "waits for"): \(unplug.waitingFor.joined(separator: ", "))"))
        }
        guard !unplug.entries.isEmpty else { return lines }
        var table = Table([.init("UNPLUGGED FROM"), .init("REMOVED"), .init("TROUBLE")])
        for entry in unplug.entries { table.add([entry.who, entry.devices.isEmpty ? "-" : entry.devices.joined(separator: ", "), entry.trouble ?? "-"]) }
        return lines + table.lines(style: style)
    }

    private func claims(_ style: Style) -> [String] {
        var table = Table([.init("CLAIM"), .init("EMULATOR"), .init("WHAT")])
        for emulator in status.emulators {
            for claim in emulator.claims { table.add([claim.range, emulator.name, claim.label]) }
        }
        return table.rows.isEmpty ? [] : table.lines(style: style)
    }

    private func slots(_ style: Style) -> [String]? {
        guard let qemu = status.qemu, !qemu.slots.isEmpty else { return nil }
        var table = Table([.init(qemu.confirmed ? "QEMU'S SLOT" : "QEMU'S SLOT (BY ITS ARGUMENTS)"), .init("WHAT")])
        for slot in qemu.slots { table.add([slot.address, slot.what]) }
        return table.lines(style: style)
    }

    private func interpositions(_ style: Style) -> [String] {
        var table = Table([.init("INTERPOSITION"), .init("EMULATOR"), .init("OVER QEMU'S")])
        for interposition in status.interpositions { table.add([interposition.range, interposition.emulator, interposition.over]) }
        return table.lines(style: style)
    }
}

extension EmulatorStatus {
    func count(_ counter: Counter) -> UInt64 { counters[counter.name] ?? 0 }
}
