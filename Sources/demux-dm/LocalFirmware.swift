import Glibc
import Host
import LocalCPU
import LocalHost
import Platform

/// The ROM that a LocalHost guest begins with on KVM.
enum LocalFirmware {
    /// Puts a ROM below 1 MiB and a vCPU at its reset vector.
    /// - Throws: SystemError when the file is no such ROM, or guest code cannot run here.
    static func boot(_ path: String, on host: LocalHost) throws(SystemError) -> KVMCPU {
        let file = try Files.open(path)
        let bytes = try Files.readAll(file.raw, limit: 128 << 10, what: path)
        guard bytes.count == 64 << 10 || bytes.count == 128 << 10 else {
            throw SystemError("use", path, reason: "it has \(bytes.count) bytes, and a firmware here has 64 or 128 KiB", remedy: "name a whole ROM")
        }
        guard let first = VCPUID(0) else { throw SystemError("create", "vCPU 0", reason: "there is no such number") }
        let machine = try KVMMachine(for: host)
        let cpu = try KVMCPU(first, of: host, on: machine)
        let isWritten = bytes.withUnsafeBytes { host.memory.write(GuestAddress(UInt64((1 << 20) - bytes.count)), from: $0) }
        guard isWritten else { throw SystemError("load", path, reason: "the guest has no RAM there") }
        try cpu.start()
        return cpu
    }
}
