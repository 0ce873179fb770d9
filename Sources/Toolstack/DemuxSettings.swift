/// Demux's own settings, given beside QEMU's arguments: `device_model_args_hvm = ["--demux-spec=/etc/demux/web.yaml"]`.
public struct DemuxSettings: Equatable, Sendable {
    /// `--demux-spec=FILE`: the guest's specification.
    public var specification: String?
    /// `--demux-emulators=a,b`: of the specification's emulators, only these; an empty list means none.
    public var emulators: [String]?
    /// `--demux-qemu=FILE`: QEMU's program.
    public var qemu: String?
    /// `--demux-verbose`: log every step.
    public var verbose = false

    public init() {}

    /// What may be given, for messages.
    static let allowed = "--demux-spec=FILE, --demux-emulators=NAME,…, --demux-qemu=FILE and --demux-verbose"

    /// Reads tokens that begin with `--demux-`.
    init(_ tokens: [String]) throws(ArgumentError) {
        var seen: Set<String> = []
        for token in tokens {
            let halves = token.dropFirst(QEMUCommandLine.ourPrefix.count).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(halves[0])
            let value = halves.count == 2 ? String(halves[1]) : nil
            guard seen.insert(name).inserted else {
                throw ArgumentError(token, reason: "--demux-\(name) is given twice", remedy: "keep one of them in device_model_args_hvm")
            }
            switch name {
            case "spec": specification = try Self.path(token, value)
            case "qemu": qemu = try Self.path(token, value)
            case "emulators":
                guard let value else {
                    throw ArgumentError(token, reason: "it has no value", remedy: "write --demux-emulators=NAME,…")
                }
                emulators = value.split(separator: ",").map(String.init)
            case "verbose":
                guard value == nil else {
                    throw ArgumentError(token, reason: "it takes no value", remedy: "write --demux-verbose alone")
                }
                verbose = true
            default:
                throw ArgumentError(token, reason: "Demux has no such setting", remedy: "it has \(Self.allowed)")
            }
        }
    }

    private static func path(_ token: String, _ value: String?) throws(ArgumentError) -> String {
        // The folder a device model starts in is the one that xl happened to be called in.
        guard let value, value.hasPrefix("/") else {
            throw ArgumentError(token, reason: "its value is not an absolute path", remedy: "write the whole path, beginning with /")
        }
        return value
    }
}
