import ArgumentParser
import ControlProtocol
import Glibc
import Host
import Platform
import Seeing
import Specification

struct TraceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trace",
        abstract: "Show the requests that a guest's emulators serve, one by one.",
        discussion: """
            While it runs, each emulator writes what it serves into a ring in memory that this command reads; requests that come faster than they \
            are read are lost and counted. What QEMU serves passes Demux by and is not seen. Ends with the guest, after --for, or with Ctrl-C.
            """
    )

    @OptionGroup var guest: GuestOptions

    @Option(help: ArgumentHelp("Only this emulator's requests.", valueName: "name"))
    var emulator: String?

    @Option(
        name: .long, parsing: .singleValue,
        help: ArgumentHelp("Only accesses to this range, such as \"ports 0x10-0x1f\", \"mmio 0xa0000-0xbffff\" or \"pci 00:03.0\"; can be repeated.", valueName: "range"))
    var range: [String] = []

    @Flag(help: "Print an object of JSON on a line for each request.")
    var json = false

    @Option(help: ArgumentHelp("Write a file that chrome://tracing and Perfetto open, instead of printing.", valueName: "file"), completion: .file())
    var chrome: String?

    @Option(name: .customLong("for"), help: ArgumentHelp("End after so many seconds.", valueName: "seconds"))
    var seconds: Double?

    @Flag(help: "Wait for a guest that is not there yet, to see it from its first request on.")
    var wait = false

    func validate() throws {
        if let seconds { guard seconds > 0, seconds <= 86_400 * 365 else { throw ValidationError("'--for' is more than 0 seconds, and a year at most.") } }
        guard !json || chrome == nil else { throw ValidationError("'--json' and '--chrome' are two forms of the same; give one.") }
        for text in range where RangeText.parse(text) == nil {
            throw ValidationError("'--range \(text)' is not a range: \"ports 0x10-0x1f\", \"mmio 0xa0000-0xbffff\" or \"pci 00:03.0\".")
        }
    }

    func run() throws {
        try carryOut {
            let client = try waitForGuest()
            let status = try client.status()
            if let emulator, !status.emulators.contains(where: { $0.name == emulator }) {
                let names = status.emulators.map(\.name).joined(separator: ", ")
                throw CommandFailure(Table.clean("domain \(client.domain) has no emulator '\(emulator)'; it has: \(names.isEmpty ? "none" : names)"))
            }
            let signals = try SignalDescriptor([SIGINT, SIGTERM])
            let watched = try Observed.open(client, trace: emulator.map { .only(name: $0) } ?? .all)
            let deaf = watched.emulators.filter { $0.reader == nil && (emulator == nil || $0.name == emulator) }.map(\.name)
            if !deaf.isEmpty { Output.errorLine("demux: not traced, because they do not tell: \(Table.clean(deaf.joined(separator: ", ")))") }
            if status.qemu != nil { Output.errorLine("demux: QEMU: \(GuestActivity.qemuNote)") }
            let session = try TraceSession(watched, claims: status, emulator: emulator, ranges: range.compactMap { RangeText.parse($0) }, sink: TraceSink(json: json, chrome: chrome))
            let end = seconds.map { EventLoop.now() &+ Duration.seconds($0).clampedNanoseconds }
            while true {
                var ended = false
                var waiting = [
                    pollfd(fd: signals.descriptor.raw, events: Int16(POLLIN), revents: 0), pollfd(fd: watched.descriptor, events: Int16(POLLIN), revents: 0),
                ]
                _ = poll(&waiting, 2, 20)
                if waiting[0].revents != 0 { ended = true }
                do { try watched.update() } catch { ended = true }
                if waiting[1].revents != 0, !ended, let status = try? client.status() { session.learn(status) }
                session.take()
                if let end, EventLoop.now() >= end { ended = true }
                if ended || session.failure != nil { break }
            }
            session.finish()
            if let failure = session.failure { throw failure }
        }
    }

    /// With --wait, a guest that is not there yet is waited for.
    private func waitForGuest() throws -> ControlClient {
        while wait {
            do { return try guest.connect() } catch { usleep(50_000) }
        }
        return try guest.connect()
    }
}

/// A file that is written until something goes wrong.
private final class TraceFile {
    private let descriptor: OwnedDescriptor
    private let path: String
    /// Why the file does not hold all.
    private(set) var failure: SystemError?

    init(_ path: String) throws(SystemError) {
        let raw = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard raw >= 0 else { throw SystemError("create", path) }
        descriptor = OwnedDescriptor(adopting: raw)
        self.path = path
    }

    func write(_ text: String) {
        guard failure == nil else { return }
        do throws(SystemError) { try Files.writeAll(Array(text.utf8), to: descriptor.raw, what: path) } catch { failure = error }
    }
}

/// Where traced requests go.
final class TraceSink {
    private enum Target {
        case standardOutput(json: Bool)
        /// In Chrome's form.
        case file(TraceFile)
    }

    private let target: Target
    private var chrome = ChromeTrace()
    /// The first request's time.
    private var start: Double?

    /// Why not all requests could be kept.
    var failure: SystemError? {
        if case .file(let file) = target { file.failure } else { nil }
    }

    init(json: Bool, chrome path: String?) throws {
        guard let path else {
            target = .standardOutput(json: json)
            return
        }
        let file = try TraceFile(path)
        file.write(ChromeTrace.opening)
        target = .file(file)
    }

    func put(_ lines: [TraceLine]) {
        guard let first = lines.first else { return }
        let start = self.start ?? first.entry.time
        self.start = start
        switch target {
        case .standardOutput(let json):
            Output.write(lines.map { Table.clean(json ? $0.json(since: start) : $0.text(since: start)) + "\n" }.joined())
        case .file(let file): file.write(lines.map { chrome.events($0) }.joined())
        }
    }

    func close() {
        if case .file(let file) = target { file.write(ChromeTrace.closing) }
    }
}

/// One run of `demux trace`: takes the entries of all emulators and puts them in the order of their times.
final class TraceSession {
    private let watched: ObservationSubscription
    private let only: String?
    private let ranges: [IORange]
    private let sink: TraceSink
    private var decoders: [String: AccessDecoder] = [:]
    private var known: [String: [(range: IORange, label: String)]] = [:]
    private var begun: Set<String> = []
    private var shown = 0
    private var lost: UInt64 = 0

    /// Whoever read the output has gone away.
    /// Why requests can no longer be kept.
    var failure: SystemError? { sink.failure }

    init(_ watched: ObservationSubscription, claims status: GuestStatus, emulator: String?, ranges: [IORange], sink: TraceSink) {
        self.watched = watched
        self.only = emulator
        self.ranges = ranges
        self.sink = sink
        learn(status)
    }

    /// What the emulators have claimed, for names.
    func learn(_ status: GuestStatus) {
        for emulator in status.emulators {
            let claims = emulator.claims.compactMap { claim in
                RangeText.parse(claim.range.lowercased()).map { (range: $0, label: claim.label.isEmpty ? emulator.name : claim.label) }
            }
            known[emulator.name] = claims
            decoders[emulator.name]?.claims = claims
        }
    }

    func take() {
        var lines: [TraceLine] = []
        for emulator in watched.takeFormer() + watched.emulators where only == nil || emulator.name == only {
            guard let reader = emulator.reader else { continue }
            let (entries, missed) = reader.takeTraces()
            // What an earlier tracer left in the ring is nobody's loss.
            if begun.insert("\(emulator.name) \(emulator.pid)").inserted {
                lines += convert(entries.filter { $0.time >= started }, emulator)
                continue
            }
            lost &+= missed
            lines += convert(entries, emulator)
        }
        lines.sort { $0.entry.time < $1.entry.time }
        shown += lines.count
        sink.put(lines)
    }

    private let started = Double(EventLoop.now())

    private func convert(_ entries: [TraceEntry], _ emulator: ObservationSubscription.Emulator) -> [TraceLine] {
        var decoder = decoders[emulator.name] ?? AccessDecoder(claims: known[emulator.name] ?? [])
        defer { decoders[emulator.name] = decoder }
        return entries.compactMap { entry in
            // Before the choice: the index registers are to be known whichever range is wanted.
            let name = decoder.name(entry)
            guard ranges.isEmpty || ranges.contains(where: { entry.touches($0) }) else { return nil }
            return TraceLine(emulator: emulator.name, pid: emulator.pid, entry: entry, name: name)
        }
    }

    func finish() {
        sink.close()
        Output.errorLine("demux: \(shown) requests" + (lost > 0 ? ", \(lost) lost: they came faster than they were read; use --emulator" : ""))
    }
}
