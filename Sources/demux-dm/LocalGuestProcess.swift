import Coordinator
import ControlProtocol
import EmulatorProtocol
import Glibc
import Host
import LocalHost
import Logging
import Platform
import Specification

/// A guest without Xen: the coordinator with LocalHost in its own process and the emulators as real ones.
enum LocalGuestProcess {
    /// How long the guest's program may take to its end once it is told to.
    private static let guestLimit = Duration.seconds(3)

    /// Serves until it is told to stop (SIGTERM, SIGINT, `demux stop`) or its guest program ends.
    /// - Returns: the exit status.
    static func run(domain: DomainID, logger: Logger) throws -> CInt {
        let specification = try SpecificationSource.standardInput()
        let signals = try SignalDescriptor([SIGTERM, SIGINT, SIGHUP])
        let loop = try EventLoop()
        let host = try LocalHost(
            domain: domain, vcpus: specification.local.vcpus, memoryBytes: UInt64(clamping: specification.local.memoryMiB) << 20)
        let prepared = try GuestProgram.prepare(specification.local, host: host)
        let base = RunDirectory.base(environment: ChildProcess.currentEnvironment())
        var settings = Coordinator.Settings(
            guestName: "local-\(domain.rawValue)", hostKind: "local",
            directory: RunDirectory.directory(domain: domain.rawValue, base: base), watchdog: Files.programFolder() + "/demux-watchdog")
        settings.emulatorsEndWithIt = true
        let coordinator = try Coordinator(loop: loop, host: host, specification: specification, settings: settings, logger: logger)
        var status: CInt = 0
        var stopping = false
        var program: GuestProgram?
        var closing = false
        func shutDown() {
            guard !closing else { return }
            closing = true
            program?.abandon()
            coordinator.shutDown { loop.stop() }
        }
        func stop(_ code: CInt) {
            guard !stopping else { return }
            stopping = true
            status = code
            guard let program else { return shutDown() }
            // The guest ends before its devices do: an emulator that goes away under an access would make it read all-ones.
            program.stop()
            loop.after(guestLimit) {
                guard !closing else { return }
                coordinator.logBook.note(.error, "the guest's program did not end: an access of its is not answered")
                status = 1
                shutDown()
            }
        }
        func programEnded(_ outcome: GuestProgram.Outcome) {
            let served = coordinator.status.emulators.reduce(0) { $0 + ($1.counters[Counter.requests.name] ?? 0) }
            coordinator.logBook.note(
                outcome.mistakes == 0 ? .info : .error,
                "the guest's program ended: \(specification.allEmulators.count) emulators served \(served) of \(outcome.accesses) requests on "
                    + "\(outcome.vcpus) vCPUs, \(outcome.checked) values checked, "
                    + (outcome.mistakes == 0 ? "every one right" : "\(outcome.mistakes) vCPUs met a wrong one"))
            if outcome.mistakes > 0 { status = 1 }
            stopping = true
            shutDown()
        }
        try loop.watch(signals.descriptor.raw, for: .readable) { _ in
            while let number = signals.next() {
                coordinator.logBook.note(.info, "signal \(number): shutting down")
                stop(0)
            }
        }
        coordinator.stopRequested = { stop(0) }
        try coordinator.reserveServers()
        try coordinator.openControl()
        coordinator.startEmulators { reasons in
            guard let reasons else {
                coordinator.logBook.note(.info, "guest \(settings.guestName) runs: \(specification.allEmulators.count) emulators serve it")
                do {
                    guard let prepared else { return }
                    if !prepared.engine.isEmpty { coordinator.logBook.note(.info, prepared.engine) }
                    program = try GuestProgram(prepared, host: host, loop: loop, ended: programEnded)
                } catch {
                    StandardError.line("demux: \(error)")
                    stop(1)
                }
                return
            }
            for reason in reasons { StandardError.line("demux: \(reason)") }
            stop(1)
        }
        try loop.run()
        host.destroyDomain()
        return status
    }
}

/// A trial of a specification: every emulator is started against a throw-away guest, says hello, claims and gets ready.
enum CheckProcess {
    /// - Returns: 0 when a guest could be started with it.
    static func run(logger: Logger) throws -> CInt {
        var specification = try SpecificationSource.standardInput()
        let loop = try EventLoop()
        guard let domain = DomainID(1) else { return 1 }
        let host = try LocalHost(domain: domain, vcpus: 2, memoryBytes: 16 << 20)
        var quiet = logger
        quiet.logLevel = .critical
        var settings = Coordinator.Settings(guestName: "check", hostKind: "local", directory: "")
        settings.emulatorsEndWithIt = true
        let wished = specification.vnc?.listen.map(\.description) ?? []
        // On LocalHost none can be direct: whether it could on Xen shows there.
        for index in specification.emulators.indices { specification.emulators[index].mode = nil }
        specification.display?.mode = nil
        // The guest itself may run and have its ports.
        specification.vnc?.listen = [.tcp(host: "127.0.0.1", first: 0, last: 0)]
        let coordinator = try Coordinator(loop: loop, host: host, specification: specification, settings: settings, logger: quiet)
        var status: CInt = 0
        var problems: [String] = []
        var report: [String] = []
        if !Files.isExecutable(specification.qemu) {
            problems.append("QEMU's program \(specification.qemu) is missing or not executable; name another as 'qemu' (only guests on Xen need it)")
        }
        // What QEMU is sure to have; its VGA depends on the guest's configuration.
        for (range, label) in QEMULegacy.ranges(vga: false, directKernel: false) { coordinator.noteQEMU(range, label: label) }
        for (device, label) in [(UInt8(0), "host bridge"), (1, "PIIX3"), (2, "Xen platform device")] {
            if let address = PCIAddress(device: device) { coordinator.noteQEMU(.pci(address), label: label) }
        }
        try coordinator.reserveServers()
        coordinator.startEmulators { reasons in
            if let reasons {
                for reason in reasons { StandardError.line("demux: \(reason)") }
                status = 1
            } else {
                report.append("\(specification.source): good: \(specification.allEmulators.count) emulators started and got what they claim")
                for emulator in coordinator.status.emulators where emulator.mode != AttachMode.exporter.rawValue {
                    let claims = emulator.claims.map { "\($0.range) (\($0.label))" }.joined(separator: ", ")
                    report.append("  \(emulator.name): \(claims.isEmpty ? "no claims" : claims)")
                }
                if let vnc = coordinator.status.vnc { report.append("  VNC: \(vnc.authentication), listening at \(wished.joined(separator: ", "))") }
                report += problems.map { "  note: \($0)" }
            }
            coordinator.shutDown { loop.stop() }
        }
        try loop.run()
        host.destroyDomain()
        try StandardOutput.write(Array(report.map { $0 + "\n" }.joined().utf8))
        return status
    }
}
