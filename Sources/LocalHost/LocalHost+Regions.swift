import Host
import Platform

/// Memory of devices: memfds that the emulator maps and the guest finds where they are put, as it finds its RAM.
extension LocalHost: RegionHost {
    public func makeRegion(length: UInt64) throws(HostError) -> HostRegion {
        let subject = "a region of \(length) bytes"
        try exists("make", subject)
        guard length > 0, length & 4095 == 0, length <= 1 << 36 else {
            throw HostError("make", subject, .invalid, detail: "it has not whole pages of 4096 bytes, or more than 64 GiB")
        }
        // A real CPU's writes are found in KVM's log when it is asked: nobody sees the first one.
        let hasDoorbell = addressSpace == nil
        do throws(SystemError) {
            let number = try memory.devices.make(length: Int(length), hasDoorbell: hasDoorbell)
            return HostRegion(number: number, length: length, gfn: nil, hasDoorbell: hasDoorbell)
        } catch {
            throw Self.failed("make", subject, error)
        }
    }

    public func adoptRegion(length: UInt64, at gfn: GFN) throws(HostError) -> HostRegion {
        throw HostError(
            "adopt", "a region at \(gfn)", .invalid, detail: "LocalHost's guests are not saved with their memory", remedy: "make a new one")
    }

    public func regionDescriptors(of region: Int) throws(HostError) -> DescriptorBag {
        do throws(SystemError) {
            if let bag = try memory.devices.descriptors(of: region) { return bag }
        } catch {
            throw Self.failed("hand out", "region \(region)", error)
        }
        throw Self.noSuchRegion("hand out", region)
    }

    public func placeRegion(_ region: Int, at gfn: GFN?) throws(HostError) {
        let subject = "region \(region)" + (gfn.map { " at \(Hex.string($0.rawValue << 12))" } ?? " nowhere")
        try exists("put", subject)
        guard let length = memory.devices.look(region)?.length else { throw Self.noSuchRegion("put", region) }
        let limit: UInt64 = 1 << 36
        if let gfn, gfn.rawValue >= limit || limit - gfn.rawValue < length >> 12 {
            throw HostError("put", subject, .invalid, detail: "a guest has 48 bits of address")
        }
        let ram = memory.regions
        let outcome = memory.devices.place(
            region, at: gfn.map { $0.rawValue << 12 },
            isRAM: { first, length in ram.contains { $0.address.rawValue < first + length && first < $0.address.rawValue + $0.length } },
            space: addressSpace)
        switch outcome {
        case .placed: return
        case .noSuchRegion: throw Self.noSuchRegion("put", region)
        case .taken(let by): throw HostError("put", subject, .invalid, detail: "\(by) is there", remedy: "the guest must put it elsewhere")
        case .refused(let error): throw Self.failed("put", subject, error)
        }
    }

    public func collectDirty(_ region: Int) throws(HostError) {
        do throws(SystemError) {
            if try memory.devices.collect(region, space: addressSpace) { return }
        } catch {
            throw Self.failed("ask for the dirty pages of", "region \(region)", error)
        }
        throw Self.noSuchRegion("ask for the dirty pages of", region)
    }

    public func removeRegion(_ region: Int) throws(HostError) {
        guard memory.devices.look(region) != nil else { throw Self.noSuchRegion("remove", region) }
        _ = memory.devices.place(region, at: nil, isRAM: { _, _ in false }, space: addressSpace)
        memory.devices.remove(region)
    }

    private static func noSuchRegion(_ operation: String, _ region: Int) -> HostError {
        HostError(operation, "region \(region)", .invalid, detail: "there is none of that number")
    }
}
