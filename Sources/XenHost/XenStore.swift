import CXen
import Glibc
import Host
import Platform

/// A connection to xenstored with one owner, closed when the owner goes away.
///
/// For the coordinator: a restricted process has none. The library starts a thread of its own with the first watch.
public struct XenStore: ~Copyable {
    private let handle: OpaquePointer

    /// What fired: the path that changed (at or under the watched one), and the token the watch was made with.
    public struct Event: Equatable, Sendable {
        public let path: String
        public let token: String
    }

    /// Fires when a domain was introduced.
    public static let introduceDomain = "@introduceDomain"
    /// Fires when a domain shut down or died: look at the domain to see whether it was one's own.
    public static let releaseDomain = "@releaseDomain"

    /// Connects.
    /// - Throws: SystemError when no xenstored answers.
    public init() throws(SystemError) {
        guard let opened = xs_open(0) else {
            throw SystemError("connect to", "xenstore", remedy: "is this dom0, and is xenstored running? Only root may connect")
        }
        handle = opened
    }

    deinit { xs_close(handle) }

    /// A value; nil when the path does not exist. Bytes that are not UTF-8 are replaced.
    public borrowing func read(_ path: String) throws(SystemError) -> String? {
        var length: UInt32 = 0
        guard let value = xs_read(handle, 0, path, &length) else {
            if errno == ENOENT { return nil }
            throw SystemError("read", "xenstore \(path)")
        }
        defer { free(value) }
        return String(decoding: UnsafeRawBufferPointer(start: value, count: Int(length)), as: UTF8.self)
    }

    /// The names under a path; nil when it does not exist.
    public borrowing func list(_ path: String) throws(SystemError) -> [String]? {
        var count: UInt32 = 0
        guard let names = xs_directory(handle, 0, path, &count) else {
            if errno == ENOENT { return nil }
            throw SystemError("list", "xenstore \(path)")
        }
        defer { free(names) }
        return (0..<Int(count)).compactMap { names[$0].map { String(cString: $0) } }
    }

    /// Writes a value, making the path as needed.
    public borrowing func write(_ path: String, _ value: String) throws(SystemError) {
        let bytes = Array(value.utf8)
        guard xs_write(handle, 0, path, bytes, UInt32(clamping: bytes.count)) else { throw SystemError("write", "xenstore \(path)") }
    }

    /// Removes a path and what is under it; one that does not exist is left alone.
    public borrowing func remove(_ path: String) throws(SystemError) {
        guard xs_rm(handle, 0, path) || errno == ENOENT else { throw SystemError("remove", "xenstore \(path)") }
    }

    /// Lets a domain read a path that dom0 owns (it and what is made under it later), and nobody else.
    public borrowing func letRead(_ path: String, by domain: DomainID) throws(SystemError) {
        var permissions = [
            xs_permissions(id: 0, perms: UInt32(XS_PERM_NONE)),
            xs_permissions(id: UInt32(domain.rawValue), perms: UInt32(XS_PERM_READ)),
        ]
        guard xs_set_permissions(handle, 0, path, &permissions, UInt32(permissions.count)) else {
            throw SystemError("set the permissions of", "xenstore \(path)")
        }
    }

    /// Readable when a watch has fired; then call `nextEvent` until it gives nil.
    public var descriptor: CInt { xs_fileno(handle) }

    /// Watches a path, or `introduceDomain` or `releaseDomain`. It fires once at once.
    public borrowing func watch(_ path: String, token: String) throws(SystemError) {
        // The pipe must be there before the library's thread is, or the first events go unnoticed.
        _ = xs_fileno(handle)
        guard xs_watch(handle, path, token) else { throw SystemError("watch", "xenstore \(path)") }
    }

    /// Ends a watch; one that does not exist is left alone.
    public borrowing func unwatch(_ path: String, token: String) throws(SystemError) {
        guard xs_unwatch(handle, path, token) || errno == ENOENT else { throw SystemError("stop watching", "xenstore \(path)") }
    }

    /// The next watch that fired; nil when none waits.
    /// - Throws: SystemError when the connection broke.
    public borrowing func nextEvent() throws(SystemError) -> Event? {
        guard let parts = xs_check_watch(handle) else {
            if errno == EAGAIN { return nil }
            throw SystemError("read watches from", "xenstore", remedy: "xenstored cannot be restarted: the host must be")
        }
        defer { free(parts) }
        guard let path = parts[0], let token = parts[1] else { return nil }
        return Event(path: String(cString: path), token: String(cString: token))
    }

    /// Whether xenstored knows the domain. False from the moment on at which it was found dead; a domain that shut down and is
    /// kept is still known (see XenControl for more).
    public borrowing func isAlive(_ domain: DomainID) -> Bool { xs_is_domain_introduced(handle, UInt32(domain.rawValue)) }
}
