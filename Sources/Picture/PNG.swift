import CPNG
import Glibc
import Platform

extension Picture {
    /// The picture as a PNG file's bytes: 8 bits each of red, green and blue.
    /// - Throws: SystemError with libpng's words.
    public func png() throws(SystemError) -> [UInt8] {
        // Without the byte that means nothing: it would become transparency.
        let colours = [UInt8](unsafeUninitializedCapacity: pixels.count * 3) { buffer, initialized in
            var place = 0
            for pixel in pixels {
                buffer[place] = UInt8(truncatingIfNeeded: pixel >> 16)
                buffer[place &+ 1] = UInt8(truncatingIfNeeded: pixel >> 8)
                buffer[place &+ 2] = UInt8(truncatingIfNeeded: pixel)
                place &+= 3
            }
            initialized = place
        }
        var image = png_image()
        image.version = png_uint_32(PNG_IMAGE_VERSION)
        image.width = png_uint_32(width)
        image.height = png_uint_32(height)
        image.format = png_uint_32(PNG_FORMAT_FLAG_COLOR)
        defer { png_image_free(&image) }
        // What libpng itself says is the largest that could come out, header included.
        var length = png_alloc_size_t(pixels.count * 3 + pixels.count / 100 + 65_536)
        var done = CInt(0)
        var bytes = [UInt8](unsafeUninitializedCapacity: Int(length)) { buffer, initialized in
            done = png_image_write_to_memory(&image, buffer.baseAddress, &length, 0, colours, 0, nil)
            initialized = done != 0 ? Int(length) : 0
        }
        guard done != 0 else { throw SystemError("encode", "a picture of \(width)×\(height) as PNG", reason: Self.message(&image)) }
        // The room for the worst case is given back.
        bytes = Array(bytes[...])
        return bytes
    }

    /// Writes the picture as a PNG file. A plain file that is there is replaced once the new one is whole; what a link names, a device
    /// or a pipe is written to.
    /// - Throws: SystemError when it cannot be encoded or written.
    public func write(to path: String) throws(SystemError) {
        let bytes = try png()
        var status = stat()
        // Replacing /dev/null, or the link /dev/stdout, would be a surprise.
        let special = lstat(path, &status) == 0 && status.st_mode & S_IFMT != S_IFREG
        let target = special ? path : "\(path).\(getpid()).partial"
        let raw = open(target, special ? O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC : O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard raw >= 0 else { throw SystemError("write", path, remedy: "its folder must exist and be writable by uid \(geteuid())") }
        do throws(SystemError) {
            let file = OwnedDescriptor(adopting: raw)
            try Files.writeAll(bytes, to: file.raw, what: path)
            guard special || rename(target, path) == 0 else { throw SystemError("write", path) }
        } catch {
            if !special { unlink(target) }
            throw error
        }
    }

    /// Reads a PNG file's bytes back; for tests and comparisons.
    /// - Throws: SystemError with libpng's words, or when a side is longer than a surface's may be.
    public init(png bytes: [UInt8]) throws(SystemError) {
        var image = png_image()
        image.version = png_uint_32(PNG_IMAGE_VERSION)
        defer { png_image_free(&image) }
        guard png_image_begin_read_from_memory(&image, bytes, bytes.count) != 0 else {
            throw SystemError("decode", "a PNG file", reason: Self.message(&image))
        }
        let width = Int(image.width), height = Int(image.height)
        guard width <= 8192, height <= 8192 else { throw SystemError("decode", "a PNG file", reason: "it is \(width)×\(height) pixels large") }
        image.format = png_uint_32(PNG_FORMAT_FLAG_COLOR)
        var colours = [UInt8](repeating: 0, count: width * height * 3)
        guard png_image_finish_read(&image, nil, &colours, 0, nil) != 0 else { throw SystemError("decode", "a PNG file", reason: Self.message(&image)) }
        var pixels: [UInt32] = []
        pixels.reserveCapacity(width * height)
        for place in stride(from: 0, to: colours.count - 2, by: 3) {
            let red = UInt32(colours[place]), green = UInt32(colours[place + 1]), blue = UInt32(colours[place + 2])
            pixels.append(red << 16 | green << 8 | blue)
        }
        guard let picture = Picture(width: width, height: height, pixels: pixels) else {
            throw SystemError("decode", "a PNG file", reason: "it has no pixels")
        }
        self = picture
    }

    private static func message(_ image: inout png_image) -> String {
        withUnsafePointer(to: &image.message) { pointer in
            // Sound: libpng ends its message with a NUL within these 64 bytes.
            pointer.withMemoryRebound(to: CChar.self, capacity: 64) { String(cString: $0) }
        }
    }
}
