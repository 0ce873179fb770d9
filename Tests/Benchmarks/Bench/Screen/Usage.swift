import Glibc
import Platform

/// What a process has used so far, by the kernel's account.
struct Usage {
    /// Nanoseconds on a processor.
    var processor: UInt64 = 0
    /// How often one of its threads went to sleep, and so was woken up.
    var wakeUps: UInt64 = 0

    /// - Parameter leavingOut: how the names begin of threads that do not count: QEMU's vCPUs are the guest.
    init(of pid: pid_t, leavingOut: String? = nil) {
        guard let folder = opendir("/proc/\(pid)/task") else { return }
        defer { closedir(folder) }
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) } }
            guard Int(name) != nil else { continue }
            let task = "/proc/\(pid)/task/\(name)/"
            if let leavingOut, Self.text(task + "comm").hasPrefix(leavingOut) { continue }
            processor &+= Self.text(task + "schedstat").split(separator: " ").first.flatMap { UInt64($0) } ?? 0
            let line = Self.text(task + "status").split(separator: "\n").first { $0.hasPrefix("voluntary_ctxt_switches:") }
            wakeUps &+= line?.split(whereSeparator: { $0 == "\t" || $0 == " " }).last.flatMap { UInt64($0) } ?? 0
        }
    }

    private init() {}

    static func - (later: Usage, earlier: Usage) -> Usage {
        var difference = Usage()
        difference.processor = later.processor &- min(earlier.processor, later.processor)
        difference.wakeUps = later.wakeUps &- min(earlier.wakeUps, later.wakeUps)
        return difference
    }

    private static func text(_ path: String) -> String {
        guard let file = try? Files.open(path), let bytes = try? Files.readAll(file.raw, limit: 1 << 16, what: path) else { return "" }
        return String(decoding: bytes, as: UTF8.self)
    }
}
