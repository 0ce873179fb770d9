import ControlProtocol
import Host

/// All guests' counters and latencies in Prometheus' text format, version 0.0.4.
public enum Prometheus {
    public static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    /// The upper ends of the latencies' buckets, in seconds.
    static let bounds: [(text: String, nanoseconds: Double)] = [
        ("1e-06", 1e3), ("2.5e-06", 2.5e3), ("5e-06", 5e3), ("1e-05", 1e4), ("2.5e-05", 2.5e4), ("5e-05", 5e4), ("0.0001", 1e5), ("0.00025", 2.5e5),
        ("0.0005", 5e5), ("0.001", 1e6), ("0.0025", 2.5e6), ("0.005", 5e6), ("0.01", 1e7), ("0.05", 5e7), ("0.1", 1e8), ("0.5", 5e8), ("1", 1e9), ("5", 5e9),
    ]

    /// One scrape.
    /// - Parameter unreachable: guests whose coordinator did not answer.
    public static func text(_ guests: [GuestAccount], unreachable: [UInt16] = []) -> String {
        var page = Page()
        page.family("demux_guest_up", "gauge", "Whether the guest's coordinator answers.")
        for guest in guests { page.sample("demux_guest_up", [("domain", "\(guest.status.domain)"), ("guest", guest.status.name)], "1") }
        for domain in unreachable { page.sample("demux_guest_up", [("domain", "\(domain)"), ("guest", "")], "0") }
        page.family("demux_emulator_up", "gauge", "Whether the emulator serves: 0 while it starts, is paused, hangs, or is dead.")
        each(guests) { labels, emulator, _ in
            page.sample("demux_emulator_up", labels, emulator.state == "serving" && emulator.hung == nil ? "1" : "0")
        }
        page.family("demux_emulator_hung", "gauge", "Whether a request has waited in the emulator for longer than its limit.")
        each(guests) { labels, emulator, _ in page.sample("demux_emulator_hung", labels, emulator.hung == nil ? "0" : "1") }
        page.family("demux_emulator_restarts_total", "counter", "Processes that took the place of one that died.")
        each(guests) { labels, emulator, _ in page.sample("demux_emulator_restarts_total", labels, "\(emulator.restarts ?? 0)") }
        for counter in Counter.allCases {
            let name = "demux_emulator_\(snake(counter.name))_total"
            page.family(name, "counter", "The emulator's counter \(counter.name) (emulator protocol, section 8).")
            each(guests) { labels, emulator, _ in page.sample(name, labels, "\(emulator.counters[counter.name] ?? 0)") }
        }
        let latency = "demux_request_duration_seconds"
        page.family(latency, "histogram", "From a request's being taken out of its slot to its answer. QEMU's requests pass us by.")
        each(guests) { labels, emulator, snapshot in
            for window in snapshot?.windows ?? [] {
                let labels = labels + [("range", window.range.map { "\($0)" } ?? "other"), ("claim", GuestAccount.label(of: window.range, in: emulator))]
                let total = window.latencies.count
                for bound in bounds { page.sample(latency + "_bucket", labels + [("le", bound.text)], "\(window.latencies.count(upTo: bound.nanoseconds))") }
                page.sample(latency + "_bucket", labels + [("le", "+Inf")], "\(total)")
                page.sample(latency + "_sum", labels, Number.fixed(window.latencies.sum / 1e9, 9))
                page.sample(latency + "_count", labels, "\(total)")
            }
        }
        let longest = "demux_request_longest_seconds"
        page.family(longest, "gauge", "The longest request since the emulator's process began.")
        each(guests) { labels, emulator, snapshot in
            for window in snapshot?.windows ?? [] {
                let labels = labels + [("range", window.range.map { "\($0)" } ?? "other"), ("claim", GuestAccount.label(of: window.range, in: emulator))]
                page.sample(longest, labels, Number.fixed(window.latencies.longest / 1e9, 9))
            }
        }
        return page.text
    }

    private static func each(_ guests: [GuestAccount], _ body: ([(String, String)], EmulatorStatus, ObservationReader.Snapshot?) -> Void) {
        for guest in guests {
            for emulator in guest.status.emulators where emulator.mode != "exporter" {
                body(
                    [("domain", "\(guest.status.domain)"), ("guest", guest.status.name), ("emulator", emulator.name)], emulator,
                    guest.snapshots[emulator.name]?.snapshot)
            }
        }
    }

    /// "portReads" as "port_reads".
    private static func snake(_ name: String) -> String {
        name.reduce(into: "") { result, character in result += character.isUppercase ? "_" + character.lowercased() : String(character) }
    }

    private struct Page {
        var text = ""
        private var seen: Set<String> = []

        mutating func family(_ name: String, _ type: String, _ help: String) { text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n" }

        /// - Parameter labels: as they are; what the format does not take is escaped here. A series that was there already is left out: the format
        ///   forbids a second one, and two claims of a guest may be called alike.
        mutating func sample(_ name: String, _ labels: [(String, String)], _ value: String) {
            let series = name + "{" + labels.map { "\($0)=\"\(Self.escaped($1))\"" }.joined(separator: ",") + "}"
            guard seen.insert(series).inserted else { return }
            text += "\(series) \(value)\n"
        }

        private static func escaped(_ text: String) -> String {
            var result = ""
            for scalar in text.unicodeScalars {
                switch scalar {
                case "\\": result += "\\\\"
                case "\"": result += "\\\""
                case "\n": result += "\\n"
                default: result.unicodeScalars.append(scalar.value < 0x20 || scalar.value == 0x7f ? "?" : scalar)
                }
            }
            return result
        }
    }
}
