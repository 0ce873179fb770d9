import CXen
import Glibc
import Host

/// Giving up rights for good. Both steps are for the whole process.
enum Privileges {
    /// Ties every handle that the Xen libraries hold in this process to one guest; those that cannot be tied (xenstore,
    /// plain hypercalls) stop working. It cannot tie them to one ioreq server.
    static func restrict(to domain: DomainID) throws(HostError) {
        guard xentoolcore_restrict_all(domain.rawValue) == 0 else {
            let code = errno
            throw HostError(
                "restrict this process to", "\(domain)", code == EPERM ? .notPermitted : .failed(code), detail: XenFailure.words(code),
                remedy: code == EOPNOTSUPP || code == ENOTTY
                    ? "dom0's kernel must know restricted privcmd and evtchn handles (Linux 4.14 or later)"
                    : "a process can be restricted once, to one domain")
        }
    }

    /// Becomes another user and group, without supplementary groups, and proves that there is no way back.
    /// - Parameter uid: nil keeps the user. `gid`: nil keeps the group.
    static func drop(uid: UInt32?, gid: UInt32?) throws(HostError) {
        guard uid != nil || gid != nil else { return }
        let user = uid ?? getuid()
        let group = gid ?? getgid()
        let whom = "uid \(user), gid \(group)"
        if geteuid() == 0 {
            guard demux_drop_groups() == 0 else { throw failure("drop the groups, to become", whom) }
        }
        guard demux_set_ids(user, group) == 0 else { throw failure("become", whom) }
        // No program that it could start gives it more.
        guard demux_no_new_privileges() == 0 else { throw failure("renounce new privileges as", whom) }
        guard demux_ids_are(user, group) == 1 else {
            throw HostError("become", whom, .notPermitted, detail: "the ids are others afterwards", remedy: "this must not happen: report it")
        }
        guard user == 0 || demux_can_return_to_root(group) == 0 else {
            throw HostError(
                "become", whom, .notPermitted, detail: "the process could still become root again",
                remedy: "check its capabilities: it must not hold CAP_SETUID or CAP_SETGID, nor keep them over a change of user")
        }
    }

    private static func failure(_ operation: String, _ whom: String) -> HostError {
        let code = errno
        return HostError(
            operation, whom, code == EPERM ? .notPermitted : .failed(code), detail: XenFailure.words(code),
            remedy: code == EPERM ? "only root can become another user: start it as root, or without uid and gid" : "")
    }
}
