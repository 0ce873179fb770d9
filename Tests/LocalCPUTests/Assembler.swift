import Glibc
import Platform
import Testing

/// Programs for the guest, out of assembly at test time (gcc and binutils are among the tests' packages).
enum Assembler {
    struct Failed: Error {}

    /// Real-mode code that is to lie at offset 0 of its segment.
    static func assemble(_ source: String) throws -> [UInt8] {
        var folder = Array("/tmp/demux-assembler.XXXXXX".utf8CString)
        guard mkdtemp(&folder) != nil else { throw SystemError("create", "a folder for a program") }
        let path = String(decoding: folder.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer {
            for name in ["program.s", "program"] { unlink("\(path)/\(name)") }
            rmdir(path)
        }
        let file = open("\(path)/program.s", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        let text = Array((".code16\n.globl _start\n_start:\n" + source + "\n").utf8)
        guard file >= 0, write(file, text, text.count) == text.count else { throw SystemError("write", "\(path)/program.s") }
        close(file)
        let status = system("gcc -m16 -nostdlib -static -Wl,--oformat=binary,-Ttext=0,--build-id=none -o \(path)/program \(path)/program.s")
        guard status == 0 else { throw Failed() }
        let built = try Files.open("\(path)/program")
        return try Files.readAll(built.raw, limit: 1 << 16, what: "\(path)/program")
    }
}
