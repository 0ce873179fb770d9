import Glibc
import Platform

/// What one process costs at a moment, by the kernel's account.
struct Footprint {
    /// Bytes of memory that are its own or its share of what it shares (proportional set size), without memfds.
    var memory: UInt64 = 0
    /// Its share of memfds: surfaces, pages, and the guest's RAM on LocalHost.
    var shared: UInt64 = 0
    var descriptors = 0
    var threads = 0
    /// The program's name, at most 15 bytes.
    var name = ""

    /// - Returns: nil when the process is gone.
    init?(of pid: pid_t) {
        guard let name = Self.text("/proc/\(pid)/comm"), let map = Self.text("/proc/\(pid)/smaps_rollup") else { return nil }
        self.name = String(name.dropLast())
        let total = Self.kilobytes("Pss:", in: map)
        let shmem = Self.kilobytes("Pss_Shmem:", in: map)
        memory = (total &- min(shmem, total)) &* 1024
        shared = shmem &* 1024
        descriptors = Self.entries("/proc/\(pid)/fd")
        threads = Self.entries("/proc/\(pid)/task")
    }

    /// A process and those that it has started, itself first.
    static func family(of pid: pid_t) -> [pid_t] {
        let children = text("/proc/\(pid)/task/\(pid)/children")?.split(separator: " ").compactMap { pid_t($0) } ?? []
        return [pid] + children.flatMap { family(of: $0) }
    }

    private static func kilobytes(_ key: String, in map: String) -> UInt64 {
        let line = map.split(separator: "\n").first { $0.hasPrefix(key) }
        return line?.split(separator: " ").dropFirst().first.flatMap { UInt64($0) } ?? 0
    }

    private static func entries(_ path: String) -> Int {
        guard let folder = opendir(path) else { return 0 }
        defer { closedir(folder) }
        var count = 0
        while readdir(folder) != nil { count += 1 }
        return max(0, count - 2)
    }

    static func text(_ path: String) -> String? {
        guard let file = try? Files.open(path), let bytes = try? Files.readAll(file.raw, limit: 1 << 20, what: path) else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }
}
