import CXen
import Glibc
import Host
import Platform
import XenHost

/// This program run again as a direct emulator: what it may and may not do once it is restricted, and what becomes of a guest whose
/// emulator hangs or dies. It reports on a socket, descriptor 3.
enum DirectChild {
    /// What it does with the requests it gets.
    enum Mode: String {
        /// Answers each with `answer`.
        case serve
        /// Takes the first one and never answers it.
        case hang
        /// Serves, and tries what it must not be able to do.
        case rights
    }

    static let answer: UInt64 = 0x5a5a_1234

    /// - Parameter arguments: domain, server, vCPUs, mode, uid, gid
    static func run(_ arguments: [String]) -> CInt {
        let socket = MessageSocket(adopting: OwnedDescriptor(adopting: 3))
        func say(_ words: String) { try? socket.send(Array(words.utf8)) }
        guard arguments.count == 6, let domain = Hex.parse(arguments[0]).flatMap({ DomainID($0) }),
            let server = Hex.parse(arguments[1]).flatMap({ ServerID($0) }), let vcpus = Int(arguments[2]), let mode = Mode(rawValue: arguments[3])
        else { return 2 }
        let before: OpenedBefore? = mode == .rights ? OpenedBefore() : nil
        do {
            var direct = try XenDirect(
                DirectRequest(domain: domain, server: server, vcpus: vcpus, ring: true, uid: UInt32(arguments[4]), gid: UInt32(arguments[5])))
            say("attached")
            guard case .message = try socket.receive() else { return 1 }
            try direct.bind()
            if mode == .rights { for line in rights(direct.guest, domain: domain, server: server, before: before) { say(line) } }
            say("bound")
            var served = 0
            let raw = socket.descriptor.raw
            if mode == .hang {
                while true {
                    for vcpu in 0..<direct.vcpuCount {
                        if direct.slots.state(vcpu) == .ready, direct.slots.copy(vcpu).kind == .portIO, direct.slots.take(vcpu) != nil { say("taken") }
                    }
                    usleep(500)
                }
            }
            _ = Serving.serve(&direct, seconds: 60, until: {
                var descriptor = pollfd(fd: raw, events: Int16(POLLIN), revents: 0)
                return poll(&descriptor, 1, 0) != 0
            }) { _, request in
                served += 1
                return request.direction == .read ? answer & request.allOnes : 0
            }
            say("served \(served)")
            return 0
        } catch {
            say("error \(error)")
            return 1
        }
    }

    /// What EmulatorKit does with memory of a device's, on a piece of the guest's RAM that nobody uses.
    private static func regions(_ guest: any DirectGuest, _ refusal: (() throws -> Void) -> String) -> [String] {
        var lines: [String] = []
        func note(_ good: Bool, _ what: String) { lines.append("\(good ? "ok" : "not ok") \(what)") }
        // 32 MiB: RAM of the agent's guest. Far above it there is nothing.
        let (here, there) = (GFN(0x2000), GFN(0x200_0000))
        note(guest.framesPresent(first: here, pages: 128, stride: 1) == 128, "a region's frames are seen to be there")
        note(guest.framesPresent(first: there, pages: 128, stride: 1) == 0 && guest.framesPresent(first: there, pages: 4096, stride: 8) == 0, "and others not to be")
        guard let region = try? guest.mapRegion(first: here, pages: 128) else { return lines + ["not ok a region is mapped"] }
        note(refusal { _ = try guest.mapRegion(first: there, pages: 2) }.contains("no memory at page 0"), "one that is not there is not mapped")
        region.base.storeBytes(of: 0x5566_7788, toByteOffset: 0x5000, as: UInt32.self)
        note(refusal { try guest.relocate(from: here, to: there, pages: 128) } == "", "a region is moved: \(refusal { try guest.relocate(from: here, to: there, pages: 1) })")
        note(
            guest.framesPresent(first: here, pages: 128, stride: 1) == 0 && guest.framesPresent(first: there, pages: 128, stride: 1) == 128,
            "it is at the new place, and at the old one no longer")
        let moved = GuestAddress((there.rawValue + 5) << 12)
        note(guest.memory.load(moved, size: 4) == 0x5566_7788 && guest.memory.store(moved, value: 0x99, size: 4), "guest memory finds it there")
        note(region.base.load(fromByteOffset: 0x5000, as: UInt32.self) == 0x99, "its mapping stays right")
        var bitmap = [UInt64](repeating: 7, count: 2)
        note(refusal { try guest.dirtyPages(first: there, pages: 100, into: &bitmap) } == "", "its dirty pages are tracked")
        note(bitmap[0] == .max && bitmap[1] & 0xf_ffff_ffff == 0xf_ffff_ffff, "at first all are dirty: \(bitmap.map { Hex.string($0) })")
        note(refusal { try guest.dirtyPages(first: there, pages: 100, into: &bitmap) } == "" && bitmap == [0, 0], "then none is: \(bitmap.map { Hex.string($0) })")
        note(refusal { try guest.stopDirtyTracking() } == "", "tracking is ended")
        note(refusal { try guest.relocate(from: there, to: here, pages: 128) } == "", "it is moved back")
        note(guest.memory.load(GuestAddress((here.rawValue + 5) << 12), size: 4) == 0x99, "and is there again")
        return lines
    }

    /// One line for each thing tried: "ok …" or "not ok …".
    private static func rights(_ guest: any DirectGuest, domain: DomainID, server: ServerID, before: OpenedBefore?) -> [String] {
        var lines: [String] = []
        func note(_ good: Bool, _ what: String) { lines.append("\(good ? "ok" : "not ok") \(what)") }
        func refusal(_ body: () throws -> Void) -> String {
            do { try body() } catch { return "\(error)" }
            return ""
        }
        note(getuid() == 990 && geteuid() == 990 && getgid() == 990, "it is uid 990, gid 990")
        note(setuid(0) != 0, "it cannot become root again")
        let place = GuestAddress(Mailbox.buffers)
        note(guest.memory.store(place, value: 0x1122_3344, size: 4) && guest.memory.load(place, size: 4) == 0x1122_3344, "foreign mapping of its guest works")
        guest.memory.invalidate()
        note(guest.memory.load(place, size: 4) == 0x1122_3344, "mapping its guest again works")
        note(refusal { try guest.setINTx(device: 0x1e, pin: 0, asserted: false) } == "", "interrupts of its guest work")
        note(refusal { try guest.markModified(place.frame, count: 1) } == "", "modified_memory of its guest works")
        for line in regions(guest, refusal) { lines.append(line) }
        note(refusal { _ = try XenHost(domain: domain) } != "", "handles cannot be opened any more: \(refusal { _ = try XenHost(domain: domain) })")
        guard let before else { return lines + ["not ok handles were opened before the restriction"] }
        note(!before.controls(domain), "libxenctrl, opened before, is of no use")
        note(!before.reads("/"), "xenstore, opened before, is of no use")
        note(before.maps(server, of: domain), "a server's pages can be mapped after the restriction")
        note(ServerID(0).map { before.maps($0, of: domain) } ?? false, "so can those of the guest's other servers: it is not tied to one")
        let (memory, request) = before.reach(another: 0)
        note(memory == EPERM, "memory of another domain cannot be mapped (errno \(memory))")
        note(request == EPERM, "requests about another domain are refused (errno \(request))")
        return lines
    }
}

/// Handles opened before the restriction, for the proof of what they are good for afterwards.
private final class OpenedBefore {
    private let control: XenControl
    private let store: XenStore
    private let deviceModel: OpaquePointer
    private let foreignMemory: OpaquePointer

    init?() {
        guard let control = try? XenControl(), let store = try? XenStore(), let deviceModel = xendevicemodel_open(nil, 0),
            let foreignMemory = xenforeignmemory_open(nil, 0)
        else { return nil }
        self.control = control
        self.store = store
        self.deviceModel = deviceModel
        self.foreignMemory = foreignMemory
    }

    func controls(_ domain: DomainID) -> Bool { (try? control.info(domain)) != nil }
    func reads(_ path: String) -> Bool { (try? store.list(path)) != nil }

    /// Whether a server's pages can be mapped.
    func maps(_ server: ServerID, of domain: DomainID) -> Bool {
        var address: UnsafeMutableRawPointer?
        guard let resource = xenforeignmemory_map_resource(
            foreignMemory, domain.rawValue, UInt32(DEMUX_XENMEM_RESOURCE_IOREQ_SERVER), UInt32(server.rawValue), 1, 1, &address,
            PROT_READ | PROT_WRITE, 0)
        else { return false }
        xenforeignmemory_unmap_resource(foreignMemory, resource)
        return true
    }

    /// The errno values of a mapping and of a request about another domain; 0 when they succeed.
    func reach(another domain: UInt16) -> (memory: CInt, request: CInt) {
        var frame: xen_pfn_t = 0x100
        var memory: CInt = 0
        if let mapped = xenforeignmemory_map(foreignMemory, UInt32(domain), PROT_READ, 1, &frame, nil) {
            xenforeignmemory_unmap(foreignMemory, mapped, 1)
        } else {
            memory = errno
        }
        var count: UInt32 = 0
        return (memory, xendevicemodel_nr_vcpus(deviceModel, domain, &count) == 0 ? 0 : errno)
    }
}
