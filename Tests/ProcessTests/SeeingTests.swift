import ControlProtocol
import Foundation
import Glibc
import Host
import Platform
import Testing

/// `demux top`, `trace`, `metrics` and `logs -f` against a guest that works.
extension CommandTests {
    private func withBusyGuest(_ body: (RunningCommand) throws -> Void) throws {
        try withGuest(program: "demo") { (run: RunningCommand) throws in
            try eventually("the guest works") { try status().emulators.allSatisfy { ($0.counters["requests"] ?? 0) > 20 } }
            try body(run)
        }
    }

    private func objects(_ text: String) throws -> [[String: Any]] {
        try text.split(separator: "\n").filter { $0.hasPrefix("{") }.map { try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]) }
    }

    @Test("top shows what each emulator served, and how fast; of one that counts no latencies, how much")
    func top() throws {
        try withBusyGuest { (_: RunningCommand) throws in
            let shown = try demux("top", "9", "--once", "--json", "--interval", "300")
            #expect(shown.status == .status(0), "\(shown.text)")
            let emulators = try #require(try objects(shown.text).first?["emulators"] as? [[String: Any]])
            let scratch = try #require(emulators.first { $0["name"] as? String == "scratch" })
            #expect((scratch["perSecond"] as? Double ?? 0) > 0 && (scratch["p99"] as? Double ?? 0) >= (scratch["p50"] as? Double ?? .infinity))
            #expect((scratch["claims"] as? [[String: Any]])?.contains { $0["label"] as? String == "registers" } ?? false)
            let c = try #require(emulators.first { $0["name"] as? String == "c" })
            #expect((c["perSecond"] as? Double ?? 0) > 0 && c["p50"] is NSNull)
            let table = try demux("top", "9", "--once", "--interval", "50")
            #expect(table.text.contains("EMULATOR / CLAIM") && table.text.contains("ports 0x500-0x51f registers"))
        }
    }

    @Test("trace prints each request, of the emulator and the range that were asked for")
    func trace() throws {
        try withBusyGuest { (_: RunningCommand) throws in
            let all = try objects(try demux("trace", "9", "--json", "--for", "0.3").text)
            #expect(Set(all.compactMap { $0["emulator"] as? String }).isSuperset(of: ["scratch"]))
            #expect(Set(all.compactMap { $0["vcpu"] as? Int }) == [0, 1])
            let some = try objects(try demux("trace", "9", "--json", "--for", "0.3", "--emulator", "scratch", "--range", "mmio 0xfed80000-0xfed80fff").text)
            #expect(!some.isEmpty && some.allSatisfy { $0["emulator"] as? String == "scratch" && ($0["address"] as? String)?.hasPrefix("0xfed80") ?? false })
            try eventually("the debug port is written") {
                let text = try demux("trace", "9", "--for", "0.5", "--emulator", "debug").text
                return text.contains("out 1") && text.contains("debug port")
            }
            #expect(try demux("trace", "9", "--emulator", "nobody").text.contains("has no emulator 'nobody'; it has: scratch, debug, c"))
        }
    }

    @Test("a trace for chrome://tracing is whole, also when it is ended by a signal")
    func chrome() throws {
        try withBusyGuest { (_: RunningCommand) throws in
            let path = base + "/trace.json"
            let command = try RunningCommand(Built.program("demux"), ["trace", "9", "--chrome", path], base: base)
            try eventually("something is written: \(command.text)") { (try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int).flatMap { $0 } ?? 0 > 10_000 }
            command.process.signal(SIGINT)
            #expect(try command.end() == .status(0))
            let events = try #require(try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: path))) as? [[String: Any]])
            #expect(events.contains { $0["ph"] as? String == "X" && ($0["name"] as? String)?.contains("registers") ?? false })
        }
    }

    @Test("the ring is written only while a trace runs")
    func onlyWhileTraced() throws {
        try withBusyGuest { (_: RunningCommand) throws in
            let watched = try ObservationSubscription(domain: 9, base: base + "/run")
            let reader = try #require(watched.emulators.first { $0.name == "scratch" }?.reader)
            func served() throws -> UInt64 { try #require(reader.snapshot()).total.count }
            #expect(reader.takeTraces().entries.isEmpty)
            #expect(try demux("trace", "9", "--for", "0.1", "--json").status == .status(0))
            try eventually("it was written meanwhile") { !reader.takeTraces().entries.isEmpty }
            // The coordinator has seen the end of the tracer's connection once a whole look brings nothing more.
            try eventually("it is written no more") {
                _ = reader.takeTraces()
                let before = try served()
                try eventually("more is served") { try served() > before + 100 }
                return reader.takeTraces().entries.isEmpty
            }
        }
    }

    @Test("whoever traces is handed the memory of the process that takes a dead one's place")
    func successor() throws {
        let specification = """
            demux: 1
            local: {vcpus: 1, memory: 8M}
            emulators:
            - {name: scratch, program: demux-scratch, ready-within: 60s, restart: on-failure}
            """
        try withGuest(specification) { (_: RunningCommand) throws in
            let watched = try ObservationSubscription(domain: 9, base: base + "/run", trace: .all)
            let first = try #require(watched.emulators.first?.pid)
            #expect(kill(first, SIGKILL) == 0)
            try eventually("its successor's is handed out") {
                try watched.update()
                return watched.emulators.first.map { $0.pid != first && $0.reader != nil } ?? false
            }
            #expect(watched.takeFormer().map(\.pid) == [first])
        }
    }

    @Test("metrics prints all guests once, and serves them at a socket and at a loopback port")
    func metrics() throws {
        try withBusyGuest { (_: RunningCommand) throws in
            let once = try demux("metrics")
            #expect(once.text.contains("demux_request_duration_seconds_count{domain=\"9\",guest=\"local-9\",emulator=\"scratch\",range=\"ports 0x500-0x51f\""))
            let path = base + "/metrics.sock"
            let server = try RunningCommand(Built.program("demux"), ["metrics", "--socket", path], base: base)
            try eventually("it listens: \(server.text)") { server.text.contains("metrics at") }
            func get(_ request: String) throws -> String {
                let socket = try UnixSocket.connectStream(path)
                let bytes = Array(request.utf8)
                #expect(write(socket.raw, bytes, bytes.count) == bytes.count)
                return String(decoding: try Files.readAll(socket.raw, limit: 1 << 20, what: "the answer"), as: UTF8.self)
            }
            let answer = try get("GET /metrics HTTP/1.1\r\n\r\n")
            #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4") && answer.contains("demux_guest_up{domain=\"9\",guest=\"local-9\"} 1"))
            #expect(try get("GET /other HTTP/1.1\r\n\r\n").hasPrefix("HTTP/1.1 404"))
            server.process.signal(SIGTERM)
            #expect(try server.end() == .status(0))
            #expect(access(path, F_OK) != 0)
            #expect(try demux("metrics", "--listen", "0.0.0.0:9000").text.contains("'--listen' is 127.0.0.1:PORT"))
        }
    }

    @Test("logs -f goes on with what is added, and ends with the guest")
    func follow() throws {
        try withGuest { (run: RunningCommand) throws in
            let follow = try RunningCommand(Built.program("demux"), ["logs", "9", "-f"], base: base)
            try eventually("the last lines") { follow.text.contains("emulator 'debug' serves") }
            #expect(try demux("detach", "9", "c").status == .status(0))
            try eventually("the next ones: \(follow.text)") { follow.text.contains("emulator 'c' was detached") }
            run.process.signal(SIGTERM)
            #expect(try follow.end() == .status(0))
            #expect(follow.text.contains("the guest has ended"))
        }
    }
}
