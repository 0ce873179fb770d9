import Glibc
import Platform

/// This process's children, as the kernel lists them.
enum Children {
    static func all() -> [pid_t] {
        guard let file = try? Files.open("/proc/self/task/\(getpid())/children"), let bytes = try? Files.readAll(file.raw, limit: 65_536, what: "the children")
        else { return [] }
        return String(decoding: bytes, as: UTF8.self).split(separator: " ").compactMap { pid_t($0) }
    }
}
