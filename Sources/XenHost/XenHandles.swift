import CXen
import Glibc
import Host

/// A handle of libxendevicemodel (create, map, enable, interrupts), closed when its owner goes away.
struct DeviceModelHandle: ~Copyable, @unchecked Sendable {
    // Sendable: the library keeps no state beside the descriptor; each call is one ioctl.
    let raw: OpaquePointer

    init() throws(HostError) {
        guard let handle = xendevicemodel_open(nil, 0) else { throw XenFailure.open("xendevicemodel", device: "/dev/xen/privcmd") }
        raw = handle
    }

    deinit { xendevicemodel_close(raw) }
}

/// A handle of libxenforeignmemory (the ioreq pages and the guest's memory), closed when its owner goes away.
struct ForeignMemoryHandle: ~Copyable, @unchecked Sendable {
    // Sendable: mapping is one mmap and one ioctl, and the library's state is the descriptor.
    let raw: OpaquePointer

    init() throws(HostError) {
        guard let handle = xenforeignmemory_open(nil, 0) else { throw XenFailure.open("xenforeignmemory", device: "/dev/xen/privcmd") }
        raw = handle
    }

    deinit { xenforeignmemory_close(raw) }
}

/// A handle of libxenevtchn, which holds event channels; they are closed with it.
struct EventChannelHandle: ~Copyable, @unchecked Sendable {
    // Sendable: as above; the kernel orders calls from different threads.
    let raw: OpaquePointer
    /// Readable when a channel is pending; reading gives port numbers, writing them back unmasks (Linux's xen/evtchn).
    let descriptor: CInt

    init() throws(HostError) {
        guard let handle = xenevtchn_open(nil, 0) else { throw XenFailure.open("xenevtchn", device: "/dev/xen/evtchn") }
        let number = xenevtchn_fd(handle)
        // Taking what is pending must not wait when it turns out to have been taken already.
        let flags = fcntl(number, F_GETFL)
        guard flags >= 0, fcntl(number, F_SETFL, flags | O_NONBLOCK) == 0 else {
            let error = XenFailure.open("xenevtchn", device: "/dev/xen/evtchn, non-blocking")
            xenevtchn_close(handle)
            throw error
        }
        raw = handle
        descriptor = number
    }

    deinit { xenevtchn_close(raw) }
}

/// The handles through which this process reaches one guest; shared by the host, its channels and its memory, so that
/// each of them stays usable for as long as it is held.
final class XenHandles: Sendable {
    let domain: DomainID
    let deviceModel: DeviceModelHandle
    let foreignMemory: ForeignMemoryHandle

    init(domain: DomainID) throws(HostError) {
        self.domain = domain
        deviceModel = try DeviceModelHandle()
        foreignMemory = try ForeignMemoryHandle()
    }

    /// How many vCPUs the domain has at most (XEN_DMOP_nr_vcpus).
    func vcpuCount() throws(HostError) -> Int {
        var count: UInt32 = 0
        guard xendevicemodel_nr_vcpus(deviceModel.raw, domain.rawValue, &count) == 0 else {
            throw failure("count the vCPUs of", "\(domain)", .domain)
        }
        return min(max(Int(count), 1), VCPUID.limit)
    }

    /// The error for a call that has just failed with this errno. A code that could also come of the guest's end is
    /// checked: a guest that is gone is always `noSuchDomain`.
    func failure(_ operation: String, _ subject: String, _ call: XenFailure.Call, code: CInt = errno) -> HostError {
        if code != ESRCH, code != EPERM, code != ENOSPC, !exists { return XenFailure.error(operation, subject, .domain, code: ESRCH, domain: domain) }
        if call.isUnmap, code == ENOENT, let server = call.server, !has(server) {
            return XenFailure.error(operation, subject, .server(server), code: code, domain: domain)
        }
        return XenFailure.error(operation, subject, call, code: code, domain: domain)
    }

    /// Whether Xen still knows the domain, dying or not.
    var exists: Bool {
        var count: UInt32 = 0
        return xendevicemodel_nr_vcpus(deviceModel.raw, domain.rawValue, &count) == 0 || errno != ESRCH
    }

    private func has(_ server: ServerID) -> Bool {
        xendevicemodel_get_ioreq_server_info(deviceModel.raw, domain.rawValue, server.rawValue, nil, nil, nil) == 0 || errno != ENOENT
    }
}
