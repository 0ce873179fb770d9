import Glibc
import TestTools
import Testing

@testable import Platform

@Suite("What strangers write")
struct OutputTests {
    @Test("nothing of a text begins a line, moves a cursor or turns the writing around")
    func escaped() {
        #expect(PrintableText.escaped("a\u{1b}[31m\r\nb\u{9b}\u{7f}\0") == "a\\x1b[31m\\x0d\\x0ab\\x9b\\x7f\\x00")
        #expect(PrintableText.escaped("x\u{202e}y\u{2028}\u{feff}") == "x\\x202ey\\x2028\\xfeff")
        #expect(PrintableText.escaped("Grüße, 世界") == "Grüße, 世界")
        #expect(PrintableText.escaped(String(repeating: "\u{1b}", count: 5000)).utf8.count <= PrintableText.longest + 8)
        #expect(PrintableText.escaped(String(repeating: "x", count: 1025)) == String(repeating: "x", count: 1024) + "…")
    }

    @Test("lines are the same however they arrive, and short ones and what is no text are told as they are")
    func lines() {
        let bytes = Array("one\n\ntwo\r\n\u{1b}[2J\n".utf8) + [0xff, 0xfe, 0x0a] + Array("no end".utf8)
        let whole = told([bytes])
        #expect(whole == ["one", "two", "\\x1b[2J", "\u{fffd}\u{fffd}", "no end"])
        for cut in 1..<bytes.count { #expect(told([Array(bytes[..<cut]), Array(bytes[cut...])]) == whole, "cut at \(cut)") }
    }

    @Test("a line without an end takes no more memory than one that is told")
    func endless() {
        var lines = OutputLines()
        var found: [String] = []
        for _ in 0..<1000 { lines.add([UInt8](repeating: 0x78, count: 16_384)) { found.append($0) } }
        lines.add([0x0a, 0x79, 0x0a]) { found.append($0) }
        #expect(found == [String(repeating: "x", count: PrintableText.longest) + "…", "y"])
    }

    private func told(_ pieces: [[UInt8]]) -> [String] {
        var lines = OutputLines()
        var found: [String] = []
        for piece in pieces { lines.add(piece) { found.append($0) } }
        lines.finish { found.append($0) }
        return found
    }
}

@Suite("Folders and locks that only their owner has")
struct PrivateFolderTests {
    private let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    private func mode(_ path: String) -> mode_t {
        var status = stat()
        return stat(path, &status) == 0 ? status.st_mode & 0o7777 : 0
    }

    @Test("a folder is made with those above it, and one of our own that is open to others is closed")
    func made() throws {
        try PrivateFolder.make(folder.path + "/run/7")
        #expect(mode(folder.path + "/run/7") == 0o700)
        #expect(chmod(folder.path + "/run/7", 0o777) == 0)
        try PrivateFolder.make(folder.path + "/run/7")
        #expect(mode(folder.path + "/run/7") == 0o700)
    }

    @Test("a link in the guest's place is not followed, and a run directory in which everybody can write is not used")
    func planted() throws {
        try folder.makeFolder("elsewhere")
        try folder.makeFolder("run")
        #expect(symlink(folder.path + "/elsewhere", folder.path + "/run/7") == 0)
        #expect(throws: SystemError.self) { try PrivateFolder.make(folder.path + "/run/7") }
        #expect(mode(folder.path + "/elsewhere") == 0o755)
        #expect(chmod(folder.path + "/run", 0o777) == 0)
        #expect(throws: SystemError.self) { try PrivateFolder.make(folder.path + "/run/8") }
        // As /tmp is: nobody but its owner removes what is in it.
        #expect(chmod(folder.path + "/run", 0o1777) == 0)
        #expect(throws: Never.self) { try PrivateFolder.make(folder.path + "/run/8") }
    }

    @Test("another user's folder is not used", .enabled(if: geteuid() == 0, "only root can give files away"))
    func others() throws {
        try folder.makeFolder("run")
        try folder.makeFolder("run/7")
        #expect(chown(folder.path + "/run/7", 65_534, 65_534) == 0)
        #expect(throws: SystemError.self) { try PrivateFolder.make(folder.path + "/run/7") }
        #expect(chown(folder.path + "/run", 65_534, 65_534) == 0)
        #expect(throws: SystemError.self) { try PrivateFolder.make(folder.path + "/run/8") }
    }

    @Test("a lock is one process's, goes with its file, and nobody else's file is one")
    func lock() throws {
        let path = folder.path + "/lock"
        do {
            let first = try #require(try take(path))
            #expect(mode(path) == 0o600)
            #expect(try take(path) == nil)
            withExtendedLifetime(first) {}
        }
        #expect(access(path, F_OK) != 0)
        try folder.write("", to: "lock", mode: 0o644)
        #expect(throws: SystemError.self) { try take(path) }
    }

    /// A lock that can be compared with nothing.
    private final class Taken {
        let lock: LockFile
        init(_ lock: consuming LockFile) { self.lock = lock }
    }

    private func take(_ path: String) throws -> Taken? {
        guard let lock = try LockFile.take(path) else { return nil }
        return Taken(lock)
    }
}
