import Glibc
import Testing

/// A folder of a test's own, removed with everything in it when the test is over.
final class TemporaryFolder {
    let path: String

    init() throws {
        // Short: a control socket's path has at most 107 bytes.
        var template = Array("/tmp/demux-test-XXXXXX".utf8CString)
        path = try #require(mkdtemp(&template).map { String(cString: $0) })
    }

    deinit { Self.remove(path) }

    @discardableResult
    func write(_ text: String, to name: String, mode: mode_t = 0o644) throws -> String {
        let file = "\(path)/\(name)"
        let handle = try #require(fopen(file, "w"))
        let bytes = Array(text.utf8)
        #expect(fwrite(bytes, 1, bytes.count, handle) == bytes.count)
        fclose(handle)
        #expect(chmod(file, mode) == 0)
        return file
    }

    @discardableResult
    func makeFolder(_ name: String) throws -> String {
        let folder = "\(path)/\(name)"
        try #require(mkdir(folder, 0o755) == 0)
        return folder
    }

    private static func remove(_ path: String) {
        if let folder = opendir(path) {
            while let entry = readdir(folder) {
                let name = withUnsafePointer(to: &entry.pointee.d_name) {
                    $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                }
                if name == "." || name == ".." { continue }
                let child = "\(path)/\(name)"
                if unlink(child) != 0 { remove(child) }
            }
            closedir(folder)
        }
        rmdir(path)
    }
}
