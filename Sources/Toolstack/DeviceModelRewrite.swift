extension DeviceModelArguments {
    /// QEMU's own list: libxl's monitor moved to a private socket, a third monitor added for Demux, Demux's settings
    /// taken out; everything else as libxl gave it (or as `adapted` made it), in its order.
    ///
    /// `.descriptor`s, those of `PrivateMonitors`, are the better choice for both: see there.
    /// - Throws: ArgumentError when there is no monitor of libxl's to move.
    public func rewritten(libxl: MonitorSocket, demux: MonitorSocket) throws(ArgumentError) -> [String] {
        guard monitor != nil else {
            throw ArgumentError(
                "-chardev …,id=\(Self.libxlMonitor)", reason: "libxl gave no such monitor",
                remedy: "a device model in a stub domain cannot be Demux; leave device_model_stubdomain_override out")
        }
        var options = line.options
        for index in options.indices where options[index].name == "chardev" {
            var list = options[index].list
            guard list["id"] == Self.libxlMonitor else { continue }
            list.replace(["path", "fd"], with: libxl.part)
            options[index] = options[index].with(value: list.description)
        }
        var own = OptionList(parsing: "socket,id=\(Self.demuxMonitor)")
        own.parts.append(demux.part)
        own.parts.append(contentsOf: OptionList(parsing: "server=on,wait=off").parts)
        let added = QEMUCommandLine(["-chardev", own.description, "-mon", "chardev=\(Self.demuxMonitor),mode=control"]).options
        // After libxl's own monitors, so that they keep their places among QEMU's.
        let place = options.lastIndex { option in
            option.name == "mon" && [Self.libxlMonitor, Self.statisticsMonitorName].contains(option.list.value(of: "chardev", first: true) ?? "")
        }
        options.insert(contentsOf: added, at: place.map { $0 + 1 } ?? options.endIndex)
        return options.flatMap(\.tokens)
    }

    /// The options without QEMU's graphics card and its ways to show it, every other PCI device pinned where it would have been beside it.
    func optionsWithoutCard(_ ours: DisplayPlan.OurDisplay) throws(ArgumentError) -> [QEMUCommandLine.Option] {
        let before = PCISlotPlan(self)
        var options = line.options
        for function in before.functions {
            guard let index = function.option, index != ours.option else { continue }
            let kind = options[index].name
            var list = options[index].list
            guard list["addr"] == nil, kind == "device" || kind == "net" else { continue }
            list.parts.append(OptionList.Part(key: "addr", value: "0x" + String(function.address.device, radix: 16)))
            options[index] = options[index].with(value: list.description)
        }
        // -vga none in its place, so that no default card comes instead.
        options[ours.option] = QEMUCommandLine.Option(name: "vga", value: "none", tokens: ["-vga", "none"])
        // The keymap is VNC's alone.
        options.removeAll { $0.name == "vnc" || $0.name == "k" }
        if !options.contains(where: { $0.name == "display" }) {
            let place = options.firstIndex { $0.name == "vga" } ?? options.endIndex
            options.insert(QEMUCommandLine.Option(name: "display", value: "none", tokens: ["-display", "none"]), at: place)
        }
        try checkPlaces(of: options, before: before, ours: ours)
        return options
    }

    /// Whether QEMU, without its card, would put everything where it was, and nothing in the card's place.
    private func checkPlaces(of options: [QEMUCommandLine.Option], before: PCISlotPlan, ours: DisplayPlan.OurDisplay) throws(ArgumentError) {
        let after = try PCISlotPlan(DeviceModelArguments(options.flatMap(\.tokens)))
        var rest = after.functions
        for function in before.functions where function.option != ours.option {
            if let index = rest.firstIndex(where: { $0.address == function.address && $0.name == function.name && $0.id == function.id }) {
                rest.remove(at: index)
            }
        }
        guard let moved = rest.first else { return }
        throw ArgumentError(
            moved.option.map { options[$0].tokens.joined(separator: " ") } ?? moved.name,
            reason: "without QEMU's standard VGA it would move to PCI \(moved.address)" + (moved.address.device == ours.slot.device ? ", where our display is" : ""),
            remedy: "give it as a -device with addr= in device_model_args_hvm, or let QEMU keep the screen with 'display: no'")
    }
}
