import Platform

/// What a coordinator and its keeper say to each other: one packet each, a byte that says what it is and, after it, a name or numbers as
/// text. A descriptor may go beside it. Both are of one version: they are installed together.
public enum KeeperMessage: Equatable, Sendable {
    // MARK: the coordinator says

    /// Hold the descriptors beside this under that name, in the place of what it holds under it.
    case keep(String)
    /// Close what is held under a name; when it ends in "/", everything whose name begins so.
    case drop(String)
    /// What is held is enough to start another coordinator from: from now on one that dies is succeeded.
    case ready
    /// How did this process, not our child, end? Answered by `status` at once.
    case ask(pid: Int32)

    // MARK: the keeper says

    /// Under this name the descriptors beside it are held.
    case held(String)
    /// All that is held was said. How many coordinators there were before this one.
    case begin(predecessors: Int)
    /// The answer to `ask`: as `demux_wait_pidfd` has it; -1: not known.
    case status(pid: Int32, status: Int32)

    private var letter: UInt8 {
        switch self {
        case .keep: 0x6b  // k
        case .drop: 0x64  // d
        case .ready: 0x72  // r
        case .ask: 0x61  // a
        case .held: 0x68  // h
        case .begin: 0x62  // b
        case .status: 0x73  // s
        }
    }

    /// A name's longest form, in bytes.
    public static let longestName = 200

    public var bytes: [UInt8] {
        switch self {
        case .keep(let name), .drop(let name), .held(let name): [letter] + name.utf8.prefix(Self.longestName)
        case .ready: [letter]
        case .ask(let pid): [letter] + "\(pid)".utf8
        case .begin(let predecessors): [letter] + "\(predecessors)".utf8
        case .status(let pid, let status): [letter] + "\(pid) \(status)".utf8
        }
    }

    /// Nil for what is no such packet.
    public init?(_ bytes: [UInt8]) {
        guard let first = bytes.first, bytes.count <= Self.longestName + 1 else { return nil }
        let text = String(decoding: bytes.dropFirst(), as: UTF8.self)
        switch first {
        case 0x6b where !text.isEmpty: self = .keep(text)
        case 0x64 where !text.isEmpty: self = .drop(text)
        case 0x68 where !text.isEmpty: self = .held(text)
        case 0x72 where text.isEmpty: self = .ready
        case 0x61:
            guard let pid = Int32(text) else { return nil }
            self = .ask(pid: pid)
        case 0x62:
            guard let number = Int(text) else { return nil }
            self = .begin(predecessors: number)
        case 0x73:
            let parts = text.split(separator: " ")
            guard parts.count == 2, let pid = Int32(parts[0]), let status = Int32(parts[1]) else { return nil }
            self = .status(pid: pid, status: status)
        default: return nil
        }
    }
}

/// What the keeper itself has to know of names and places.
public enum KeeperNames {
    /// In the coordinator's environment: the number of its socket to the keeper.
    public static let socketVariable = "DEMUX_KEEPER"
    /// In the environment of a coordinator that is only to report that the guest is broken: why.
    public static let brokenVariable = "DEMUX_KEEPER_BROKEN"
    /// The listening socket at which `demux adopt` comes in: the keeper serves it itself.
    public static let listener = "keeper.listener"
    /// Its file in the guest's folder.
    public static let socketFile = "keeper.sock"
    /// The last part of a name under which the reading end of a pipe is held that somebody writes lines to.
    public static let outputPart = "output"
    /// What `demux adopt` says there.
    public static let adopt = "adopt"
    public static let adoptByForce = "adopt by force"
}
