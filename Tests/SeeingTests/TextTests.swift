import ControlProtocol
import Foundation
import Host
import Testing

@testable import Seeing

@Suite("What is shown of requests")
struct TextTests {
    private func entry(
        _ kind: IORequest.Kind = .portIO, _ direction: IORequest.Direction = .write, _ address: UInt64, _ value: UInt64 = 0, size: UInt32 = 1, slot: Int? = 0
    ) -> TraceEntry {
        TraceEntry(time: 5e9, duration: 1234, slot: slot, type: kind.rawValue, direction: direction, address: address, value: value, size: size)
    }

    @Test("an index register names the data register that follows")
    func indices() {
        var decoder = AccessDecoder()
        #expect(decoder.name(entry(.portIO, .read, 0x3d5)) == "VGA CRTC data")
        #expect(decoder.name(entry(.portIO, .write, 0x3d4, 0x0e)) == "VGA CRTC index [cursor place high]")
        #expect(decoder.name(entry(.portIO, .read, 0x3d5)) == "VGA CRTC data [cursor place high]")
        _ = decoder.name(entry(.portIO, .write, 0x1ce, 1, size: 2))
        #expect(decoder.name(entry(.portIO, .write, 0x1cf, 1024, size: 2)) == "DISPI data [XRES]")
        _ = decoder.name(entry(.portIO, .write, 0x70, 0x8b))
        #expect(decoder.name(entry(.portIO, .read, 0x71)) == "CMOS data [status B]")
    }

    @Test("a register of configuration space is named with its function", arguments: [(0x00, "vendor"), (0x04, "command"), (0x14, "BAR1"), (0x3c, "interrupt line"), (0x50, "device's own")])
    func configuration(register: UInt64, name: String) throws {
        let function = try #require(PCIAddress(device: 5))
        var decoder = AccessDecoder()
        #expect(decoder.name(entry(.pciConfig, .read, function.requestAddress | register)) == "PCI 00:05.0 \(Hex.string(register)) \(name)")
    }

    @Test("a port in a claim that begins elsewhere is called by the claim, and one without a name too")
    func claims() throws {
        let range = try #require(PortRange(first: 0x500, last: 0x51f))
        var decoder = AccessDecoder(claims: [(.ports(range), "registers")])
        #expect(decoder.name(entry(.portIO, .read, 0x510)) == "registers+0x10")
        #expect(decoder.name(entry(.portIO, .read, 0x504)) == "registers+0x4")
    }

    @Test("a port that every PC has alike is called so, wherever the claim begins")
    func legacy() throws {
        let range = try #require(PortRange(first: 0x3b0, last: 0x3df))
        var decoder = AccessDecoder(claims: [(.ports(range), "VGA registers")])
        #expect(decoder.name(entry(.portIO, .write, 0x3d4, 0x10e, size: 2)) == "VGA CRTC index [cursor place high] and its data")
        #expect(decoder.name(entry(.portIO, .read, 0x3d0)) == "VGA registers+0x20")
    }

    @Test("a request is told of in words, with the function that a configuration access reaches")
    func words() throws {
        let function = try #require(PCIAddress(device: 3))
        let request = IORequest(kind: .pciConfig, direction: .read, address: function.requestAddress | 0xa, size: 2)
        #expect(request.words == "a PCI configuration read of 2 bytes at 0000:00:03.0 register 0xa")
    }

    @Test("a range chooses what touches it", arguments: [("0x4ff", UInt32(2), true), ("0x500", 1, true), ("0x4ff", 1, false), ("0x520", 4, false)])
    func ranges(address: String, size: UInt32, touches: Bool) throws {
        let range = IORange.ports(try #require(PortRange(first: 0x500, last: 0x51f)))
        #expect(entry(.portIO, .read, try #require(Hex.parse(address)), size: size).touches(range) == touches)
    }

    @Test("a file for chrome://tracing is an array of complete events, whatever the names are")
    func chrome() throws {
        var chrome = ChromeTrace()
        var text = ChromeTrace.opening
        let hostile = "a\"b\\c\u{1}\u{9f}é"
        for number in 0..<100 {
            text += chrome.events(TraceLine(emulator: "x", pid: 40 + Int32(number % 2), entry: entry(.copy, .read, UInt64(number), 5, size: 4, slot: number % 3 == 0 ? nil : 1), name: hostile))
        }
        text += ChromeTrace.closing
        let events = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [[String: Any]])
        let complete = events.filter { $0["ph"] as? String == "X" }
        #expect(complete.count == 100)
        #expect(complete.allSatisfy { $0["ts"] as? Double == 5e6 && $0["dur"] as? Double == 1.234 && $0["pid"] is Int && $0["tid"] is Int && $0["name"] as? String == "mmio read \(hostile)" })
        #expect(events.filter { $0["ph"] as? String == "M" && $0["name"] as? String == "process_name" }.count == 2)
    }

    @Test("each line of JSON can be read, whatever the numbers are", arguments: [0.0, 1e300, -1e300, Double.nan, Double.infinity, 1.5])
    func json(number: Double) throws {
        let entry = TraceEntry(
            time: number, duration: number, slot: nil, type: 77, direction: .read, address: .max, value: .max, size: .max, count: .max, isPointer: true, isBackwards: true, isLate: true)
        let line = TraceLine(emulator: "e", pid: 1, entry: entry, name: "\"\n")
        #expect(try JSONSerialization.jsonObject(with: Data(line.json(since: 0).utf8)) is [String: Any])
        #expect(!line.text(since: 0).isEmpty)
    }
}

@Suite("Prometheus' text format")
struct PrometheusTests {
    private func account(name: String = "guest") throws -> GuestAccount {
        let memory = try Memory()
        for number in 1...1000 { memory.page.record(1, ticks: UInt64(number * 1000)) }
        memory.page.record(0, ticks: 5)
        let emulator = EmulatorStatus(
            name: "scratch", program: "/p", pid: 9, state: "serving", mode: "isolated", server: 4, claims: [.init(range: "ports 0x500-0x51f", label: "a\"\\\nb")],
            counters: ["requests": 1001], restarts: 2)
        let status = GuestStatus(domain: 7, name: name, host: "local", coordinatorPID: 1, specification: "s", vcpus: 1, emulators: [emulator])
        return GuestAccount(status: status, snapshots: ["scratch": (9, try #require(memory.reader.snapshot()))], time: 0)
    }

    /// Lines as the format's grammar has them; nil when one is none.
    private func parsed(_ text: String) -> [(name: String, labels: String, value: Double)]? {
        var found: [(name: String, labels: String, value: Double)] = []
        for line in text.split(separator: "\n", omittingEmptySubsequences: false).dropLast() where !line.hasPrefix("# HELP ") && !line.hasPrefix("# TYPE ") {
            guard let match = line.wholeMatch(of: /([a-zA-Z_:][a-zA-Z0-9_:]*)\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\} ([0-9.e+-]+)/), let value = Double(match.3) else { return nil }
            found.append((String(match.1), String(match.2), value))
        }
        return found
    }

    @Test("every line is a comment or a sample, and no series comes twice")
    func grammar() throws {
        let text = Prometheus.text([try account(name: "we\"ird\\\u{1}"), try account()], unreachable: [12])
        let samples = try #require(parsed(text))
        #expect(text.hasSuffix("\n"))
        #expect(Set(samples.map { $0.name + $0.labels }).count == samples.count)
    }

    @Test("a histogram's buckets only grow, and the last one is the count")
    func histogram() throws {
        let samples = try #require(parsed(Prometheus.text([try account()])))
        let buckets = samples.filter { $0.name == "demux_request_duration_seconds_bucket" && $0.labels.contains("ports 0x500") }.map(\.value)
        #expect(buckets == buckets.sorted() && buckets.last == 1000)
        #expect(samples.contains { $0.name == "demux_request_duration_seconds_count" && $0.value == 1000 })
    }

    @Test("each family is described once, before its samples")
    func families() throws {
        let lines = Prometheus.text([try account()]).split(separator: "\n")
        let types = lines.filter { $0.hasPrefix("# TYPE ") }.map { String($0.split(separator: " ")[2]) }
        #expect(Set(types).count == types.count && types.contains("demux_emulator_port_reads_total"))
    }
}

@Suite("What an emulator does in a second")
struct ActivityTests {
    @Test("QEMU's row says that it is not known")
    func qemu() {
        let qemu = QEMUStatus(pid: 3, program: "/qemu", state: "running", slots: [], confirmed: true)
        let status = GuestStatus(domain: 7, name: "g", host: "xen", coordinatorPID: 1, specification: "s", vcpus: 1, qemu: qemu)
        let account = GuestAccount(status: status, snapshots: [:], time: 0)
        #expect(GuestActivity(account, account).rows == [["QEMU", "running", "-", "not known: its requests pass us by"]])
    }

    @Test("a process that took a dead one's place begins at nothing")
    func restarted() throws {
        func account(_ pid: Int32, _ count: Int, time: UInt64) throws -> GuestAccount {
            let memory = try Memory()
            for _ in 0..<count { memory.page.record(1, ticks: 100) }
            let emulator = EmulatorStatus(
                name: "e", program: "/p", pid: pid, state: "serving", mode: "direct", server: 4, claims: [], counters: ["requests": UInt64(count)])
            let status = GuestStatus(domain: 7, name: "g", host: "xen", coordinatorPID: 1, specification: "s", vcpus: 1, emulators: [emulator])
            return GuestAccount(status: status, snapshots: ["e": (pid, try #require(memory.reader.snapshot()))], time: time)
        }
        let activity = GuestActivity(try account(5, 1000, time: 0), try account(6, 10, time: 2_000_000_000))
        #expect(activity.emulators.first?.total.perSecond == 5)
        #expect(activity.emulators.first?.total.latencies?.count == 10)
    }
}
