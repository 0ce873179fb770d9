import Glibc
import Platform
import Testing

@Suite("The README")
struct ReadmeTests {
    private static func text(_ path: String) throws -> String {
        let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let file = try Files.open("/\(root)/\(path)")
        return String(decoding: try Files.readAll(file.raw, limit: 1 << 20, what: path), as: UTF8.self)
    }

    @Test("Its example is Emulators/Example word for word, and under 40 lines")
    func example() throws {
        let example = try Self.text("Emulators/Example/Example.swift")
        #expect(try Self.text("README.md").contains("```swift\n\(example)```"))
        #expect(example.split(separator: "\n", omittingEmptySubsequences: false).count < 40)
    }
}
