import CLinux
import Glibc
import Platform

/// Giving up rights for good, before anybody is let in.
enum Privileges {
    /// Becomes another user and group, without supplementary groups, and proves that there is no way back.
    /// - Parameters: nil keeps what it is.
    static func drop(uid: UInt32?, gid: UInt32?) throws(SystemError) {
        guard uid != nil || gid != nil else { return }
        let user = uid ?? getuid()
        let group = gid ?? getgid()
        let whom = "uid \(user), gid \(group)"
        guard demux_renounce(user, group) == 0 else {
            throw SystemError("become", whom, remedy: "only root can become another user: start it as root, or without uid and gid")
        }
        guard demux_has_renounced(user, group) == 1 else {
            throw SystemError(
                "become", whom, reason: "the process could still become root again",
                remedy: "check its capabilities: it must not hold CAP_SETUID or CAP_SETGID, nor keep them over a change of user")
        }
    }
}
