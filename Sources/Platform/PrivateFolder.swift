import Glibc

/// Folders in which only their owner's files can be: where sockets and locks are met.
public enum PrivateFolder {
    /// Makes a folder that only this user can enter, and the folders above it that are missing.
    ///
    /// One that is there already is taken when it is this user's own; the folder above it, when nobody but root and this user could have put something else
    /// in its place.
    /// - Throws: SystemError when it cannot be made, or somebody else could have.
    public static func make(_ path: String) throws(SystemError) {
        let parts = path.split(separator: "/")
        var built = ""
        for (index, part) in parts.enumerated() {
            built += "/" + part
            let isLast = index == parts.count - 1
            if mkdir(built, isLast ? 0o700 : 0o755) == 0 { continue }
            let code = errno
            guard code == EEXIST else {
                throw SystemError("make the folder", built, code: code, remedy: advice(for: code))
            }
            if isLast { try takeOwn(built) } else if index == parts.count - 2 { try checkShared(built) }
        }
    }

    private static func advice(for code: CInt) -> String {
        switch code {
        case ENOTDIR: "something on the way to it is a file and no folder: DEMUX_RUN_DIR must name another place"
        case ENAMETOOLONG: "DEMUX_RUN_DIR must name a shorter path"
        case ENOSPC, EDQUOT: "make room there, or have DEMUX_RUN_DIR name another place"
        default: "uid \(geteuid()) needs to write there, or DEMUX_RUN_DIR must name another place"
        }
    }

    private static let remedy = "remove it, or let DEMUX_RUN_DIR name a folder in which others cannot write"

    /// What was there before: this user's own folder, and no link to another.
    private static func takeOwn(_ path: String) throws(SystemError) {
        let raw = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard raw >= 0 else { throw SystemError("use the folder", path, code: errno, remedy: remedy) }
        defer { close(raw) }
        var status = stat()
        guard fstat(raw, &status) == 0 else { throw SystemError("look at", path) }
        guard status.st_uid == geteuid() else {
            throw SystemError("use the folder", path, reason: "it belongs to uid \(status.st_uid), not to \(geteuid())", remedy: remedy)
        }
        guard status.st_mode & 0o077 == 0 || fchmod(raw, 0o700) == 0 else { throw SystemError("close to others", path) }
    }

    private static func checkShared(_ path: String) throws(SystemError) {
        var status = stat()
        // The link itself, if it is one: whoever owns it says where it leads.
        guard lstat(path, &status) == 0 else { throw SystemError("look at", path) }
        let link = status
        guard stat(path, &status) == 0 else { throw SystemError("look at", path) }
        for owner in [link.st_uid, status.st_uid] where owner != 0 && owner != geteuid() {
            throw SystemError("use the folder", path, reason: "it belongs to uid \(owner)", remedy: remedy)
        }
        guard status.st_mode & 0o002 == 0 || status.st_mode & 0o1000 != 0 else {
            throw SystemError("use the folder", path, reason: "everybody may replace what is in it", remedy: remedy)
        }
    }
}
