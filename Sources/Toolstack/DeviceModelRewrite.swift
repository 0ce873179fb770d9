extension DeviceModelArguments {
    /// QEMU's own list: libxl's monitor moved to a private socket, a third monitor added for Demux, Demux's settings
    /// taken out; everything else as libxl gave it, in its order.
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
}
