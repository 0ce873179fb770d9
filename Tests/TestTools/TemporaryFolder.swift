import Glibc
import Platform

/// A folder of a test's own, removed with everything in it when the test is over.
public final class TemporaryFolder: Sendable {
    public let path: String

    /// - Throws: SystemError when there is no room for it.
    public init() throws(SystemError) {
        // Short: a control socket's path has at most 107 bytes.
        var template = Array("/tmp/demux-test-XXXXXX".utf8CString)
        guard let made = mkdtemp(&template) else { throw SystemError("make", "a temporary folder") }
        path = String(cString: made)
    }

    deinit { Self.remove(path) }

    /// Writes a file.
    /// - Returns: its path.
    @discardableResult
    public func write(_ text: String, to name: String, mode: mode_t = 0o644) throws(SystemError) -> String {
        let file = "\(path)/\(name)"
        let raw = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
        guard raw >= 0 else { throw SystemError("make", file) }
        let owned = OwnedDescriptor(adopting: raw)
        let bytes = Array(text.utf8)
        // The umask may have taken some of the mode away.
        guard Glibc.write(owned.raw, bytes, bytes.count) == bytes.count, fchmod(owned.raw, mode) == 0 else { throw SystemError("write", file) }
        return file
    }

    /// Makes a folder in it.
    /// - Returns: its path.
    @discardableResult
    public func makeFolder(_ name: String) throws(SystemError) -> String {
        let folder = "\(path)/\(name)"
        guard mkdir(folder, 0o755) == 0 else { throw SystemError("make", folder) }
        return folder
    }

    private static func remove(_ path: String) {
        for name in names(in: path) where unlink("\(path)/\(name)") != 0 { remove("\(path)/\(name)") }
        rmdir(path)
    }

    /// What is in a folder, sorted; nothing when there is none.
    public static func names(in path: String) -> [String] {
        guard let folder = opendir(path) else { return [] }
        defer { closedir(folder) }
        var found: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                // Sound: d_name is a NUL-terminated array inside the entry, which lives until the next readdir.
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { found.append(name) }
        }
        return found.sorted()
    }
}
