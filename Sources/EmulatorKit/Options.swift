import Host

/// The specification's options of one emulator: text that the device asks for by name, with the reason when it does not fit.
struct Options {
    private let values: [String: String]
    private var asked: Set<String> = []

    init(_ values: [String: String]) { self.values = values }

    mutating func text(_ name: String) -> String? {
        asked.insert(name)
        return values[name]
    }

    mutating func number(_ name: String, default fallback: UInt64, in range: ClosedRange<UInt64>) throws(SetupError) -> UInt64 {
        guard let text = text(name) else { return fallback }
        guard let value = Hex.parse(text), range.contains(value) else {
            throw SetupError(
                "read the option", "'\(name)'", reason: "'\(text.prefix(60))' is not a number from \(Hex.string(range.lowerBound)) to \(Hex.string(range.upperBound))",
                remedy: "write it as 0x500 or 1280")
        }
        return value
    }

    mutating func flag(_ name: String, default fallback: Bool) throws(SetupError) -> Bool {
        guard let text = text(name) else { return fallback }
        switch text {
        case "yes", "true", "on": return true
        case "no", "false", "off": return false
        default:
            throw SetupError("read the option", "'\(name)'", reason: "'\(text.prefix(60))' is neither yes nor no", remedy: "write yes or no")
        }
    }

    /// Refuses an option that the device never asked for: most likely a slip of the pen.
    func refuseOthers() throws(SetupError) {
        guard let other = values.keys.filter({ !asked.contains($0) }).min() else { return }
        let known = asked.sorted().joined(separator: ", ")
        throw SetupError(
            "use the option", "'\(other.prefix(60))'", reason: "this emulator has none of that name",
            remedy: known.isEmpty ? "it has no options at all" : "it has: \(known)")
    }
}
