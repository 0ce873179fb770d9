import Host
import Unplug

/// QEMU's Xen platform device, asked for on Demux's monitor before the guest runs: who stands in its place has to look like it, to the revision that a
/// toolstack has given it (`-device xen-platform,device-id=…,revision=…`).
public enum QEMUPlatform {
    /// Which of QEMU's functions it is; nil: none, or none that is made as PlatformDevice is.
    public static func find(in functions: [PCIFunctionReport]) -> PCIFunctionReport? {
        let regions = [
            PCIFunctionReport.Region(bar: 0, isMemory: false, size: Int64(PlatformDevice.portCount)),
            PCIFunctionReport.Region(bar: 1, isMemory: true, size: Int64(PlatformDevice.memoryLength)),
        ]
        return functions.first { $0.vendor == PlatformDevice.vendor && $0.address.bus == 0 && $0.regions.sorted { $0.bar < $1.bar } == regions }
    }

    /// Reads who it is from its configuration space, by QEMU's own ports 0xcf8 and 0xcfc. Not for a guest that runs: 0xcf8 is 0 afterwards.
    /// - Parameter done: called once.
    public static func read(
        _ address: PCIAddress, from client: QMPClient, deadline: Duration, _ done: @escaping (Result<PlatformDevice, QMPError>) -> Void
    ) {
        // Class with revision, the two ids, and the pin. Sent one behind the other: QEMU carries them out in this order.
        let registers: [UInt32] = [0x00, 0x08, 0x2c, 0x3c]
        var values: [UInt32] = []
        var trouble: QMPError?
        func note(_ reply: Result<String, QMPError>) {
            if case .failure(let error) = reply { trouble = trouble ?? error }
        }
        for register in registers {
            let place = 0x8000_0000 | UInt32(address.device) << 11 | UInt32(address.function) << 8 | register
            client.humanCommand("o/w 0xcf8 0x\(String(place, radix: 16))", deadline: deadline, reply: note)
            client.humanCommand("i/w 0xcfc", deadline: deadline) { reply in
                note(reply)
                if case .success(let text) = reply, let value = value(in: text) { values.append(value) }
            }
        }
        client.humanCommand("o/w 0xcf8 0", deadline: deadline) { reply in
            note(reply)
            if let trouble { return done(.failure(trouble)) }
            guard values.count == registers.count, values[0] & 0xffff == UInt32(PlatformDevice.vendor) else {
                return done(.failure(QMPError(command: "i/w 0xcfc", reason: .refused(kind: "", text: "its answers are no configuration space of the device's"))))
            }
            done(
                .success(
                    PlatformDevice(
                        id: values[0], classAndRevision: values[1], subsystem: values[2], interruptPin: UInt8(truncatingIfNeeded: values[3] >> 8))))
        }
    }

    /// "portl[0x0cfc] = 0x00015853": the value.
    static func value(in text: String) -> UInt32? {
        guard let sign = text.firstIndex(of: "=") else { return nil }
        let digits = text[text.index(after: sign)...].drop { $0 == " " }.prefix { !$0.isWhitespace }
        guard digits.hasPrefix("0x") else { return nil }
        return UInt32(digits.dropFirst(2), radix: 16)
    }
}
