import EmulatorKit
import Glibc
import Platform

/// The VGA BIOS, as firmware reads it from the ROM BAR.
enum VideoROM {
    /// Where Debian's seabios and QEMU's own packages put it.
    static let places = [
        "/usr/share/seabios/vgabios-stdvga.bin", "/usr/share/qemu/vgabios-stdvga.bin", "/usr/lib/xen-4.17/boot/vgabios-stdvga.bin",
    ]
    private static let largest = 256 << 10

    /// Reads the image.
    /// - Parameter chosen: the option `rom`: a path, or "no" for a card without a BIOS.
    /// - Returns: nil when there shall be none.
    /// - Throws: SetupError when the file is missing or is no option ROM.
    static func load(_ chosen: String?) throws(SetupError) -> [UInt8]? {
        if chosen == "no" { return nil }
        guard let path = chosen ?? places.first(where: { access($0, R_OK) == 0 }) else {
            throw SetupError(
                "find", "the VGA BIOS", reason: "there is none at \(places.joined(separator: ", "))",
                remedy: "install the package seabios, or name the file with the option 'rom' ('no' for none)")
        }
        let image: [UInt8]
        do throws(SystemError) {
            let file = try Files.open(path)
            image = try Files.readAll(file.raw, limit: largest, what: path)
            _ = consume file
        } catch {
            throw SetupError(error)
        }
        guard image.count >= 512, image[0] == 0x55, image[1] == 0xaa else {
            throw SetupError("use", path, reason: "it is not an option ROM: it does not begin with 55 aa", remedy: "name another file with the option 'rom'")
        }
        return image
    }

    /// A little-endian value of the image; all-ones beyond its end.
    static func read(_ image: [UInt8], _ offset: Int, size: Int) -> UInt64 {
        var value: UInt64 = 0
        for index in 0..<min(max(size, 0), 8) {
            let place = offset &+ index
            let byte = place >= 0 && place < image.count ? image[place] : 0xff
            value |= UInt64(byte) << UInt64(index &* 8)
        }
        return value
    }
}
