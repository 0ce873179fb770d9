import Glibc
import Host
import Platform

/// The few requests of libxenctrl that the coordinator needs, from the library of whichever Xen is running.
///
/// libxenctrl's ABI belongs to one Xen release, so nothing here is linked to it: it is loaded when the coordinator starts, and
/// only functions whose parameters have stayed the same are called. A restricted process cannot use it.
public struct XenControl: ~Copyable {
    /// How a domain is.
    public struct DomainInfo: Equatable, Sendable {
        /// Being destroyed: it goes once nobody holds its pages.
        public let dying: Bool
        /// Shut down, by itself or for a save; see `shutdownReason`.
        public let shutdown: Bool
        /// SHUTDOWN_*: 0 power off, 1 reboot, 2 suspend, 3 crash, 4 watchdog, 5 soft reset. Nil while it runs.
        public let shutdownReason: UInt8?
        public let paused: Bool
        public let hvm: Bool
        /// Pages it has.
        public let pages: UInt64
        /// Pages it may have (maxmem).
        public let maximumPages: UInt64

        /// Ended for good, as far as an emulator is concerned; a domain suspended for a save is not.
        public var ended: Bool { dying || (shutdown && shutdownReason != 2) }
    }

    private typealias Open = @convention(c) (OpaquePointer?, OpaquePointer?, UInt32) -> OpaquePointer?
    private typealias Close = @convention(c) (OpaquePointer) -> CInt
    private typealias GetInfoList = @convention(c) (OpaquePointer, UInt32, UInt32, UnsafeMutableRawPointer) -> CInt
    private typealias SetMaxmem = @convention(c) (OpaquePointer, UInt32, UInt64) -> CInt
    private typealias Populate = @convention(c) (OpaquePointer, UInt32, UInt, UInt32, UInt32, UnsafeMutablePointer<UInt>) -> CInt
    private typealias Decrease = @convention(c) (OpaquePointer, UInt32, UInt, UInt32, UnsafeMutablePointer<UInt>) -> CInt

    /// The loaded library and its functions. It is never unloaded: its code may be on another thread's stack.
    private struct Library {
        let name: String
        let open: Open
        let close: Close
        let getInfoList: GetInfoList
        let setMaxmem: SetMaxmem
        let populate: Populate
        let decrease: Decrease
    }

    private let library: Library
    private let handle: OpaquePointer

    /// The library that was loaded: "libxenctrl.so.4.17".
    public var libraryName: String { library.name }

    /// Loads the library that fits the running Xen and opens it.
    /// - Throws: SystemError when no library is there, one lacks a function, or Xen cannot be reached.
    public init() throws(SystemError) {
        let loaded = try Self.load()
        guard let opened = loaded.open(nil, nil, 0) else {
            throw SystemError("open", "Xen's control interface (\(loaded.name))", remedy: "run as root in dom0, before rights are given up")
        }
        library = loaded
        handle = opened
    }

    deinit { _ = library.close(handle) }

    /// How a domain is; nil when there is none with this number.
    public borrowing func info(_ domain: DomainID) throws(SystemError) -> DomainInfo? {
        // One struct xen_domctl_getdomaininfo (xen/include/public/domctl.h): domain u16, pad u16, flags u32, tot_pages u64,
        // max_pages u64, then much that differs between releases; it has less than 256 bytes in all of them.
        let size = 4096
        let record = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 8)
        record.initializeMemory(as: UInt8.self, repeating: 0, count: size)
        defer { record.deallocate() }
        let found = library.getInfoList(handle, UInt32(domain.rawValue), 1, record)
        guard found >= 0 else { throw SystemError("look at", "\(domain)", remedy: "does \(library.name) belong to the running Xen?") }
        // It gives the first domain from this number on.
        guard found == 1, record.load(as: UInt16.self) == domain.rawValue else { return nil }
        let flags = record.load(fromByteOffset: 4, as: UInt32.self)
        let shutdown = flags & 1 << 2 != 0
        return DomainInfo(
            dying: flags & 1 << 0 != 0, shutdown: shutdown, shutdownReason: shutdown ? UInt8(truncatingIfNeeded: flags >> 16) : nil,
            paused: flags & 1 << 3 != 0, hvm: flags & 1 << 1 != 0, pages: record.load(fromByteOffset: 8, as: UInt64.self),
            maximumPages: record.load(fromByteOffset: 16, as: UInt64.self))
    }

    /// Sets how many pages a domain may have.
    public borrowing func setMaximumPages(_ pages: UInt64, of domain: DomainID) throws(SystemError) {
        let (kibibytes, overflow) = pages.multipliedReportingOverflow(by: 4)
        guard !overflow else { throw SystemError("allow \(domain)", "\(pages) pages", reason: "that is more than there can be") }
        guard library.setMaxmem(handle, UInt32(domain.rawValue), kibibytes) == 0 else {
            throw SystemError("allow \(domain)", "\(pages) pages of memory (maxmem)")
        }
    }

    /// Gives a guest new memory at guest-physical frames that have none, and raises what it may have by as much. When it fails,
    /// everything is as before: what Xen had given already (it does not take it back) is released. (One page may stay with
    /// the domain, without a place in it: Xen 4.17 loses hold of the page for which its page tables had no room.)
    /// - Throws: SystemError; most often ENOMEM or EBUSY when the host has no memory left.
    public borrowing func populate(_ domain: DomainID, first: GFN, pages: Int) throws(SystemError) {
        let what = "\(pages) pages of memory at \(first)"
        guard pages > 0, pages <= 1 << 24, first.rawValue < 1 << 36 else {
            throw SystemError("give \(domain)", what, reason: "it is not a range that a guest can have")
        }
        guard let before = try info(domain) else { throw SystemError("give \(domain)", what, code: ESRCH) }
        try setMaximumPages(before.maximumPages &+ UInt64(pages), of: domain)
        var frames = Self.frames(first, pages)
        guard library.populate(handle, UInt32(domain.rawValue), UInt(pages), 0, 0, &frames) == 0 else {
            let code = errno
            // Xen fills them in order, so what it gave is the first part; taking back ends at the first that is missing.
            let given = give(back: domain, first: first, pages: pages)
            try? setMaximumPages(before.maximumPages, of: domain)
            throw SystemError(
                "give \(domain)", what, code: code,
                remedy: "Xen gave \(given) and has them back. `xl info` shows free_memory: balloon dom0 down, or give the guest less; "
                    + "many pages also need shadow_memory, and a display needs videoram, in the guest's configuration")
        }
    }

    /// Takes memory back from a guest, and lowers what it may have by as much.
    /// - Returns: how many pages it had there: those from `first` on up to the first that is missing.
    @discardableResult
    public borrowing func release(_ domain: DomainID, first: GFN, pages: Int) throws(SystemError) -> Int {
        guard pages > 0, pages <= 1 << 24, first.rawValue < 1 << 36 else { return 0 }
        guard let before = try info(domain) else { throw SystemError("take memory back from", "\(domain)", code: ESRCH) }
        let given = give(back: domain, first: first, pages: pages)
        if given > 0, before.maximumPages > UInt64(given) { try setMaximumPages(before.maximumPages - UInt64(given), of: domain) }
        return given
    }

    private borrowing func give(back domain: DomainID, first: GFN, pages: Int) -> Int {
        var frames = Self.frames(first, pages)
        return max(0, Int(library.decrease(handle, UInt32(domain.rawValue), UInt(pages), 0, &frames)))
    }

    private static func frames(_ first: GFN, _ pages: Int) -> [UInt] {
        (0..<UInt(pages)).map { UInt(first.rawValue) &+ $0 }
    }

    // MARK: loading

    private static func load() throws(SystemError) -> Library {
        var tried: [String] = []
        for name in names() {
            guard let image = dlopen(name, RTLD_NOW | RTLD_LOCAL) else {
                tried.append(name)
                continue
            }
            return Library(
                name: name, open: try function("xc_interface_open", image, name), close: try function("xc_interface_close", image, name),
                getInfoList: try function("xc_domain_getinfolist", image, name), setMaxmem: try function("xc_domain_setmaxmem", image, name),
                populate: try function("xc_domain_populate_physmap_exact", image, name),
                decrease: try function("xc_domain_decrease_reservation", image, name))
        }
        throw SystemError(
            "load", "libxenctrl", reason: "none of \(tried.joined(separator: ", ")) is installed",
            remedy: "install the library of the running Xen (Debian: libxenmisc4.17, which xen-utils brings)")
    }

    /// The running Xen's own first, then those of other releases: one may have been built under another name.
    private static func names() -> [String] {
        var names: [String] = []
        if let major = number("/sys/hypervisor/version/major"), let minor = number("/sys/hypervisor/version/minor") {
            names.append("libxenctrl.so.\(major).\(minor)")
        }
        let known = [17, 18, 19, 20, 16, 15, 14].map { "libxenctrl.so.4.\($0)" }
        return names + known.filter { !names.contains($0) }
    }

    private static func number(_ path: String) -> Int? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 16)
        let count = read(descriptor, &bytes, bytes.count)
        return Int(String(decoding: bytes.prefix(max(0, count)).prefix { $0 >= 0x30 && $0 <= 0x39 }, as: UTF8.self))
    }

    private static func function<Type>(_ symbol: String, _ image: UnsafeMutableRawPointer, _ name: String) throws(SystemError) -> Type {
        guard let address = dlsym(image, symbol) else {
            throw SystemError(
                "find", "\(symbol) in \(name)", reason: "the library does not have it", remedy: "this release of Xen is not known to Demux")
        }
        // The type is that of the function's declaration in xenctrl.h, written above.
        return unsafeBitCast(address, to: Type.self)
    }
}
