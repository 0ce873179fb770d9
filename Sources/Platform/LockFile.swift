import Glibc

/// A lock that only one process has, by a file that only its owner can open: on a folder that others can read, they could hold it.
public struct LockFile: ~Copyable {
    private let descriptor: OwnedDescriptor
    private let path: String

    /// Takes the lock; nil when another process has it.
    /// - Throws: SystemError when the file cannot be made, or is somebody else's.
    public static func take(_ path: String) throws(SystemError) -> LockFile? {
        while true {
            let raw = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0o600)
            guard raw >= 0 else { throw SystemError("open", path) }
            let descriptor = OwnedDescriptor(adopting: raw)
            var ours = stat()
            guard fstat(raw, &ours) == 0 else { throw SystemError("look at", path) }
            guard ours.st_uid == geteuid(), ours.st_mode & S_IFMT == S_IFREG, ours.st_mode & 0o077 == 0 else {
                throw SystemError("lock", path, reason: "it is not a file of uid \(geteuid())'s alone", remedy: "remove it")
            }
            guard flock(raw, LOCK_EX | LOCK_NB) == 0 else {
                guard errno == EWOULDBLOCK else { throw SystemError("lock", path) }
                return nil
            }
            // Whoever had it last may have removed it between our opening and our locking.
            var there = stat()
            if lstat(path, &there) == 0, there.st_ino == ours.st_ino, there.st_dev == ours.st_dev { return LockFile(descriptor: descriptor, path: path) }
        }
    }

    /// Removes the file, and with it the lock.
    deinit { unlink(path) }
}
