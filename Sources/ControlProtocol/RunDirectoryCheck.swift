import Glibc
import Platform

/// Whether guests can be looked for, or started, in a run directory: before anybody takes silence for their absence.
extension RunDirectory {
    /// Checks that a run directory can be looked into. One that is not there has no guests, and is no error.
    /// - Throws: SystemError that names it, the cause and another place.
    public static func checkReadable(_ base: String) throws(SystemError) { try check(base, R_OK | X_OK, "look into", "enter and read") }

    /// Checks that a guest can be started: its sockets' paths must fit, and its folder must be to be made.
    /// - Throws: SystemError that names the directory, the cause and another place.
    public static func checkUsable(_ base: String, domain: UInt16) throws(SystemError) {
        let socket = controlSocket(domain: domain, base: base)
        guard socket.utf8.count <= UnixSocket.longestPath else { throw UnixSocket.failure("listen at", socket, code: ENAMETOOLONG) }
        try check(base, R_OK | W_OK | X_OK, "use", "enter and write")
    }

    private static func check(_ base: String, _ rights: CInt, _ operation: String, _ needed: String) throws(SystemError) {
        let subject = "the run directory \(base)"
        var status = stat()
        if stat(base, &status) != 0 {
            switch errno {
            case ENOENT: return
            case EACCES: break
            case let code: throw SystemError(operation, subject, code: code, remedy: "name another one with --run-dir")
            }
        } else if status.st_mode & S_IFMT != S_IFDIR {
            throw SystemError(operation, subject, code: ENOTDIR, remedy: "name another one with --run-dir")
        }
        guard access(base, rights) == 0 else {
            throw SystemError(operation, subject, remedy: "uid \(geteuid()) must be allowed to \(needed) it: be root, or name another one with --run-dir")
        }
    }
}
