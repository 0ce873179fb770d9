import EmulatorProtocol
import Host

@testable import EmulatorKit

/// What an emulator has committed in its state region, for tests that look at it or spoil it.
enum Committed {
    /// Has the device's bytes changed, and committed as if its emulator had written them. False when nothing whole stands there.
    @discardableResult
    static func change(
        _ base: UnsafeMutableRawPointer, length: Int, deviceLength: Int, version: Int = 1, _ body: (UnsafeMutableRawBufferPointer) -> Void
    ) -> Bool {
        let working = UnsafeMutableRawBufferPointer.allocate(byteCount: CommitArea.padded(deviceLength), alignment: 32)
        defer { working.deallocate() }
        guard let start = working.baseAddress else { return false }
        var area = CommitArea(
            base: base + KitState.length, length: length - KitState.length, isOn: true, working: start, deviceLength: deviceLength, version: version)
        guard area.find() != nil else { return false }
        body(UnsafeMutableRawBufferPointer(rebasing: working[..<deviceLength]))
        area.write(entries: 0, posted: CommitArea.Posted())
        area.flip()
        return true
    }

    /// The device's bytes that count; nil when nothing whole stands there.
    static func bytes(_ base: UnsafeMutableRawPointer, length: Int, deviceLength: Int) -> [UInt8]? {
        let working = UnsafeMutableRawBufferPointer.allocate(byteCount: CommitArea.padded(deviceLength), alignment: 32)
        defer { working.deallocate() }
        guard let start = working.baseAddress else { return nil }
        var area = CommitArea(
            base: base + KitState.length, length: length - KitState.length, isOn: true, working: start, deviceLength: deviceLength, version: 1)
        guard area.find() != nil else { return nil }
        return Array(working.prefix(deviceLength))
    }
}
