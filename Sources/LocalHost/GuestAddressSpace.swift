import Host
import Platform

/// Where a real CPU finds guest-physical memory besides RAM: the memory of devices (regions), which the guest uses as it uses RAM.
///
/// What runs guest code implements this (module LocalCPU, on KVM). A scripted guest has none: its accesses come through LocalVCPU, so that
/// LocalHost itself finds the region and notes which pages were written.
public protocol GuestAddressSpace: AnyObject, Sendable {
    /// Shows a region to the guest's CPUs at an address, or moves it there. What was written at the place before is not forgotten.
    /// - Parameters:
    ///   - region: the region's number, chosen by the caller; the same one in every later call.
    ///   - memory: all of the region, mapped by the caller; a whole number of pages. It has to stay mapped until `unmap` has returned.
    /// - Throws: SystemError when the region is not made of pages, lies over RAM or another region, or the kernel refuses.
    func map(region: Int, at address: GuestAddress, memory: UnsafeMutableRawBufferPointer) throws(SystemError)

    /// Takes a region out of the guest's address space. One that is not there is left alone. What the guest wrote until then is
    /// kept for the next `collectDirty`.
    func unmap(region: Int) throws(SystemError)

    /// Adds the pages that the guest's CPUs wrote since the last call, and forgets them: get and clear.
    /// - Parameter bitmap: one bit a page, the first page in bit 0 of byte 0; bits that are set already stay set. Bits beyond its end are lost.
    func collectDirty(region: Int, into bitmap: UnsafeMutableRawBufferPointer) throws(SystemError)
}

extension LocalHost {
    /// What runs the guest's code; nil for a guest whose accesses come from a script.
    public var addressSpace: (any GuestAddressSpace)? { space.withLock { $0 } }

    /// Has device regions shown to real CPUs as well. To be called before the first region is made: those that are there are not told.
    public func attach(_ addressSpace: (any GuestAddressSpace)?) { space.withLock { $0 = addressSpace } }
}
