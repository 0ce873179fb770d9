import Glibc

/// Finds the programs that a specification names.
public struct ProgramFinder: Sendable {
    /// Where a bare name is looked up, in this order.
    public let directories: [String]

    public init(directories: [String]) { self.directories = directories }

    /// Looks beside the running executable, then in the `libexec/demux` of the same installation.
    public static func besideExecutable() -> ProgramFinder {
        guard let here = executableDirectory() else { return ProgramFinder(directories: []) }
        let parent = here.split(separator: "/").dropLast().joined(separator: "/")
        return ProgramFinder(directories: [here, (parent.isEmpty ? "" : "/" + parent) + "/libexec/demux"])
    }

    /// The folder of the running executable, links resolved.
    public static func executableDirectory() -> String? {
        guard let path = resolve("/proc/self/exe"), let slash = path.lastIndex(of: "/") else { return nil }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// An absolute path without links; nil when there is no such file.
    static func resolve(_ path: String) -> String? {
        guard let resolved = realpath(path, nil) else { return nil }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    /// What was found under a name.
    public enum Found: Equatable, Sendable {
        case program(String)
        /// There is something, but it cannot be run.
        case notExecutable(String)
        /// Nothing there: where it was looked for.
        case missing([String])
        /// A path that depends on where it is used.
        case relative
    }

    /// Looks a program up: an absolute path as it is, a name without '/' in `directories`.
    public func find(_ name: String) -> Found {
        if name.contains("/") {
            guard name.hasPrefix("/") else { return .relative }
            return Self.look(at: [name])
        }
        return Self.look(at: directories.map { $0.hasSuffix("/") ? $0 + name : "\($0)/\(name)" })
    }

    private static func look(at candidates: [String]) -> Found {
        var unusable: String?
        for path in candidates {
            var status = stat()
            guard stat(path, &status) == 0 else { continue }
            if status.st_mode & S_IFMT == S_IFREG, access(path, X_OK) == 0 { return .program(path) }
            unusable = unusable ?? path
        }
        return unusable.map(Found.notExecutable) ?? .missing(candidates)
    }
}

/// Users and groups of this machine.
enum Accounts {
    /// The highest number there is: the one above it means "unchanged" to the kernel.
    static let highest: UInt32 = 0xffff_fffe

    /// A user by name or number, with its own group when the machine knows one.
    static func user(_ text: String) -> (uid: UInt32, gid: UInt32?)? {
        var entry = passwd()
        var found: UnsafeMutablePointer<passwd>?
        var space = [CChar](repeating: 0, count: 16_384)
        if let number = number(text) {
            guard getpwuid_r(number, &entry, &space, space.count, &found) == 0, found != nil else { return (number, nil) }
            return (number, entry.pw_gid)
        }
        guard getpwnam_r(text, &entry, &space, space.count, &found) == 0, found != nil else { return nil }
        return (entry.pw_uid, entry.pw_gid)
    }

    /// A group by name or number.
    static func group(_ text: String) -> UInt32? {
        if let number = number(text) { return number }
        var entry = Glibc.group()
        var found: UnsafeMutablePointer<Glibc.group>?
        var space = [CChar](repeating: 0, count: 65_536)
        guard getgrnam_r(text, &entry, &space, space.count, &found) == 0, found != nil else { return nil }
        return entry.gr_gid
    }

    private static func number(_ text: String) -> UInt32? {
        guard let value = Quantities.decimal(text), let number = UInt32(exactly: value), number <= highest else { return nil }
        return number
    }
}
