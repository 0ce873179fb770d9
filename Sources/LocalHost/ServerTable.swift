import Host

/// The ioreq servers of a domain and what decides which of them gets an access (xen/common/ioreq.c, xen/arch/x86/hvm/ioreq.c).
struct ServerTable {
    private(set) var servers: [LocalServer?] = Array(repeating: nil, count: ServerID.limit)
    /// The last 4-byte write to port 0xcf8: one a domain, not one a vCPU.
    private var cf8: UInt32 = 0
    /// Event channel numbers in use; handed out lowest free first, as Xen does, because a vCPU that lost its server is freed through
    /// whoever gets its number next.
    private var usedPorts = Set<UInt32>()

    /// Who gets an access, and as what.
    struct Target {
        let server: LocalServer
        /// The request as it will be in the slot: an access to CFC has become PCI_CONFIG.
        let request: IORequest
    }

    var lowestFree: ServerID? { servers.firstIndex { $0 == nil }.flatMap { ServerID($0) } }

    mutating func allocatePorts(_ count: Int) -> [UInt32] {
        var ports: [UInt32] = []
        var next: UInt32 = 1
        while ports.count < count {
            if usedPorts.insert(next).inserted { ports.append(next) }
            next &+= 1
        }
        return ports
    }

    mutating func freePorts(_ ports: [UInt32]) { usedPorts.subtract(ports) }

    mutating func insert(_ server: LocalServer) { servers[Int(server.id.rawValue)] = server }

    mutating func remove(_ server: LocalServer) {
        servers[Int(server.id.rawValue)] = nil
        freePorts(server.ports)
        if let port = server.ringPort { freePorts([port]) }
    }

    subscript(_ id: ServerID) -> LocalServer? { servers[Int(id.rawValue)] }

    /// Enabled servers, highest id first: the order in which Xen asks and broadcasts.
    var enabled: [LocalServer] { servers.reversed().compactMap { $0 }.filter(\.enabled) }

    /// Notes a write to CF8 (hvm_access_cf8): only all four bytes at once.
    mutating func latch(_ request: IORequest, value: UInt64) {
        if request.address == 0xcf8, request.size == 4, request.direction == .write { cf8 = UInt32(truncatingIfNeeded: value) }
    }

    /// The server that gets an access: the highest enabled id in whose ranges all of it lies (ioreq_server_select).
    func select(_ request: IORequest) -> Target? {
        var routed = request
        let span: ClosedRange<UInt64>
        let type: IORequest.Kind
        switch request.kind {
        case .portIO:
            if request.address & ~3 == 0xcfc, cf8 & 0x8000_0000 != 0 {
                // Bus, device and function are bits 23 to 8 of CF8; the register's low bits come from the port.
                let function = UInt64(cf8 >> 8 & 0xffff)
                routed.type = IORequest.Kind.pciConfig.rawValue
                routed.address = function << 32 | UInt64(cf8 & 0xfc) | request.address & 3
                span = function...function
                type = .pciConfig
            } else {
                guard AccessSize.isValid(request.size), request.address <= 0xffff else { return nil }
                span = request.address...(request.address + UInt64(request.size) - 1)
                type = .portIO
            }
        case .copy:
            guard let bytes = request.memorySpan else { return nil }
            span = bytes
            type = .copy
        default: return nil
        }
        for server in servers.reversed() {
            guard let server, server.enabled, server.owns(span, type) else { continue }
            return Target(server: server, request: routed)
        }
        return nil
    }
}

extension IORequest {
    /// The bytes that a memory access touches, first to last over all repetitions; nil when there are none or they wrap.
    var memorySpan: ClosedRange<UInt64>? {
        let each = UInt64(size)
        guard count > 0, each > 0 else { return nil }
        let before = UInt64(count - 1) * each
        if backwards {
            let (first, under) = address.subtractingReportingOverflow(before)
            let (last, over) = address.addingReportingOverflow(each - 1)
            return under || over ? nil : first...last
        }
        let (last, over) = address.addingReportingOverflow(before + each - 1)
        return over ? nil : address...last
    }
}
