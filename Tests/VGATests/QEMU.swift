import Glibc
import Platform
import TestTools

/// QEMU with its standard VGA and no CPU that runs: the test does the accesses (stopped, and driven over `-qtest`), and takes pictures over QMP.
final class QEMU: Card {
    static let program = "/usr/bin/qemu-system-x86_64"
    static var isInstalled: Bool { access(program, X_OK) == 0 }

    struct Failed: Error, CustomStringConvertible {
        let description: String
    }

    private enum Place {
        static let memory = 0xe000_0000
        static let registers = 0xf100_0000
        static let window = 0xa0000
    }

    private let folder: String
    private var process: pid_t = 0
    private let tests: Line
    private let monitor: Line
    /// Answers of writes that have not been read yet.
    private var outstanding = 0

    init(megabytes: Int) throws {
        var template = Array("/tmp/vga-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Failed(description: "mkdtemp: errno \(errno)") }
        folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let arguments = [
            "qemu", "-nodefaults", "-machine", "pc,accel=tcg", "-S", "-m", "32", "-display", "none", "-device", "VGA,vgamem_mb=\(megabytes)",
            "-qtest", "unix:\(folder)/qtest", "-qtest-log", "/dev/null", "-qmp", "unix:\(folder)/qmp",
        ]
        // QEMU connects to both, so that nobody has to find out when it listens.
        let testsListener = try UnixSocket.listen(.stream, path: folder + "/qtest")
        let monitorListener = try UnixSocket.listen(.stream, path: folder + "/qmp")
        var pointers = arguments.map { strdup($0) } + [nil]
        defer { for pointer in pointers { free(pointer) } }
        let status = posix_spawn(&process, Self.program, nil, nil, &pointers, environ)
        guard status == 0 else { throw Failed(description: "posix_spawn: errno \(status)") }
        do {
            tests = try Line(from: testsListener)
            monitor = try Line(from: monitorListener)
        } catch {
            kill(process, SIGKILL)
            waitpid(process, nil, 0)
            throw error
        }
        _ = monitor.read()
        command(#"{"execute":"qmp_capabilities"}"#)
        // The VGA in slot 2: BARs, then decoding.
        config(0x10, UInt32(Place.memory))
        config(0x18, UInt32(Place.registers))
        config(0x04, 3)
    }

    deinit {
        command(#"{"execute":"quit"}"#)
        var status: CInt = 0
        waitpid(process, &status, 0)
        for name in ["qtest", "qmp", "picture"] { unlink(folder + "/" + name) }
        rmdir(folder)
    }

    private func config(_ register: UInt32, _ value: UInt32) {
        tell("outl 0xcf8 \(0x8000_1000 | register)")
        tell("outl 0xcfc \(value)")
    }

    private func tell(_ line: String) {
        tests.write(line)
        outstanding += 1
        if outstanding >= 64 { settle() }
    }

    private func settle() {
        while outstanding > 0 {
            _ = tests.read()
            outstanding -= 1
        }
    }

    private func ask(_ line: String) -> UInt64 {
        settle()
        tests.write(line)
        let answer = tests.read()
        guard let word = answer.split(separator: " ").last else { return .max }
        return UInt64(word.dropFirst(2), radix: 16) ?? .max
    }

    private func command(_ text: String) {
        monitor.write(text)
        while true {
            let answer = monitor.read()
            if answer.isEmpty || answer.contains("\"return\"") || answer.contains("\"error\"") { return }
        }
    }

    private static func letter(_ size: Int) -> String { [1: "b", 2: "w", 4: "l", 8: "q"][size] ?? "b" }

    func write(port: UInt16, size: Int, _ value: UInt64) { tell("out\(Self.letter(size)) \(port) \(value)") }
    func read(port: UInt16, size: Int) -> UInt64 { ask("in\(Self.letter(size)) \(port)") }
    func write(window: Int, size: Int, _ value: UInt64) { tell("write\(Self.letter(size)) \(Place.window + window) \(value)") }
    func read(window: Int, size: Int) -> UInt64 { ask("read\(Self.letter(size)) \(Place.window + window)") }
    func write(registers: Int, size: Int, _ value: UInt64) { tell("write\(Self.letter(size)) \(Place.registers + registers) \(value)") }
    func read(registers: Int, size: Int) -> UInt64 { ask("read\(Self.letter(size)) \(Place.registers + registers)") }

    func write(memory: Int, _ bytes: [UInt8]) {
        let digits = Array("0123456789abcdef".utf8)
        for start in stride(from: 0, to: bytes.count, by: 16384) {
            let piece = bytes[start..<min(start + 16384, bytes.count)]
            var text: [UInt8] = []
            for byte in piece { text += [digits[Int(byte >> 4)], digits[Int(byte & 15)]] }
            tell("write \(Place.memory + memory + start) \(piece.count) 0x" + String(decoding: text, as: UTF8.self))
        }
    }

    /// The screen as red, green, blue.
    func picture() throws -> (width: Int, height: Int, bytes: [UInt8]) {
        settle()
        let path = folder + "/picture"
        command(#"{"execute":"screendump","arguments":{"filename":"\#(path)"}}"#)
        guard let file = fopen(path, "r") else { throw Failed(description: "no picture at \(path): errno \(errno)") }
        defer { fclose(file) }
        var (width, height) = (0, 0)
        var header = [UInt8](repeating: 0, count: 64)
        guard fgets(&header, 64, file) != nil, fgets(&header, 64, file) != nil else { throw Failed(description: "the picture has no header") }
        let words = String(decoding: header.prefix { $0 != 0 && $0 != 10 }, as: UTF8.self).split(separator: " ")
        if words.count == 2 { (width, height) = (Int(words[0]) ?? 0, Int(words[1]) ?? 0) }
        guard fgets(&header, 64, file) != nil else { throw Failed(description: "the picture's header is short") }
        var bytes = [UInt8](repeating: 0, count: width * height * 3)
        guard fread(&bytes, 1, bytes.count, file) == bytes.count else { throw Failed(description: "the picture is short") }
        return (width, height, bytes)
    }
}

/// A connection that speaks in lines.
private final class Line {
    private let connection: OwnedDescriptor
    private var descriptor: CInt { connection.raw }
    private var buffer: [UInt8] = []
    private var at = 0

    /// - Throws: when QEMU does not come.
    init(from listener: borrowing OwnedDescriptor) throws {
        guard Waiting.forEvent(on: listener.raw), let accepted = try UnixSocket.accept(listener.raw) else {
            throw QEMU.Failed(description: "QEMU does not connect")
        }
        connection = accepted
    }

    func write(_ line: String) {
        let bytes = Array((line + "\n").utf8)
        var done = 0
        while done < bytes.count {
            let sent = bytes[done...].withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            guard sent > 0 else { return }
            done += sent
        }
    }

    /// - Returns: a line without its end; empty when the other has gone.
    func read() -> String {
        while true {
            if let end = buffer[at...].firstIndex(of: 10) {
                defer {
                    at = end + 1
                    if at > 65536 {
                        buffer.removeFirst(at)
                        at = 0
                    }
                }
                return String(decoding: buffer[at..<end], as: UTF8.self).trimmed
            }
            var piece = [UInt8](repeating: 0, count: 65536)
            let got = recv(descriptor, &piece, piece.count, 0)
            guard got > 0 else { return "" }
            buffer += piece.prefix(got)
        }
    }
}

extension String {
    fileprivate var trimmed: String { hasSuffix("\r") ? String(dropLast()) : self }
}
