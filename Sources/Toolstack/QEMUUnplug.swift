import EmulatorProtocol
import Unplug

/// Has QEMU unplug its own emulated devices, on Demux's monitor: QEMU's unplug ports are still there for it, although the guest reaches others.
///
/// QEMU says nothing about what it did, so that it is asked what it has before and afterwards. Belongs to the thread of its event loop.
public final class QEMUUnplug {
    /// A drive, as `query-block` tells.
    struct Drive: Equatable {
        /// "ide0-hd0", "ide-5632", …
        let name: String
        /// A CD-ROM or a floppy disk: never unplugged.
        let isRemovable: Bool

        /// Reads the reply of `query-block`; nil when it is not one.
        static func list(from reply: JSONValue) -> [Drive]? {
            guard let entries = reply.elements else { return nil }
            var drives: [Drive] = []
            for entry in entries {
                guard let name = entry["device"]?.text, let removable = entry["removable"]?.bool else { return nil }
                // Drives that were made with -blockdev have no name of their own, and devices that were made here no id.
                drives.append(Drive(name: name.isEmpty ? entry["qdev"]?.text ?? "" : name, isRemovable: removable))
            }
            return drives
        }
    }

    /// Why QEMU's devices stay, or are not known.
    public struct Trouble: Error, Equatable, CustomStringConvertible {
        public let description: String
    }

    private let client: QMPClient

    public init(client: QMPClient) { self.client = client }

    /// The devices of QEMU's that a mask with these classes removes.
    public func candidates(_ classes: Set<UnplugClass>, deadline: Duration = .seconds(10), _ done: @escaping (Result<[String], Trouble>) -> Void) {
        client.execute("query-block", deadline: deadline) { [client] blocks in
            client.queryPCI(deadline: deadline) { functions in
                do throws(QMPError) {
                    guard let drives = Drive.list(from: try blocks.get()) else { return done(.failure(Trouble(description: "QEMU's list of drives cannot be read"))) }
                    done(.success(Self.candidates(classes, drives: drives, functions: try functions.get())))
                } catch {
                    done(.failure(Trouble(description: error.description)))
                }
            }
        }
    }

    /// Has QEMU remove them. CD-ROMs and devices of the host's that were passed through stay, by QEMU's own rules.
    /// - Parameter done: called once, with the names of those that are gone, or with what is still there.
    public func unplug(_ classes: Set<UnplugClass>, deadline: Duration, _ done: @escaping (Result<[String], Trouble>) -> Void) {
        candidates(classes, deadline: deadline) { [self] before in
            guard case .success(let before) = before else { return done(before) }
            client.humanCommand("o/h 0x10 0x\(String(UnplugMask(classes).rawValue, radix: 16))", deadline: deadline) { [self] reply in
                if case .failure(let error) = reply { return done(.failure(Trouble(description: error.description))) }
                candidates(classes, deadline: deadline) { after in
                    guard case .success(let left) = after else { return done(after) }
                    let gone = before.filter { !left.contains($0) }
                    guard left.isEmpty else {
                        return done(
                            .failure(
                                Trouble(
                                    description: "QEMU still has \(left.joined(separator: ", "))"
                                        + (gone.isEmpty ? "" : ", and has removed \(gone.joined(separator: ", "))"))))
                    }
                    done(.success(gone))
                }
            }
        }
    }

    /// Has QEMU make the guest's ROM area read-only, or writable.
    public func lockROM(_ locked: Bool, _ done: @escaping (QMPError?) -> Void) {
        client.humanCommand("o/b 0x10 \(locked ? 1 : 0)") { reply in
            if case .failure(let error) = reply { done(error) } else { done(nil) }
        }
    }

    static func candidates(_ classes: Set<UnplugClass>, drives: [Drive], functions: [PCIFunctionReport]) -> [String] {
        // A mask cannot name each class alone.
        let named = UnplugMask(classes).classes
        var found: [String] = []
        for drive in drives where !drive.isRemovable {
            if drive.name.hasPrefix("ide") {
                if named.contains(.ideDisk) || named.contains(.auxDisk) && drive.name != "ide0-hd0" { found.append(drive.name) }
            } else if drive.name.hasPrefix("scsi"), named.contains(.scsiDisk) {
                found.append(drive.name)
            }
        }
        for function in functions {
            // libxl's ids for devices of the host's.
            guard !function.id.hasPrefix("pci-pt-") else { continue }
            let isNIC = function.classCode >> 8 == 0x02 && named.contains(.nic)
            let isNVMe = function.classCode == 0x0108 && named.contains(.nvme)
            if isNIC || isNVMe { found.append(function.id.isEmpty ? "\(function.address)" : function.id) }
        }
        return found
    }
}
