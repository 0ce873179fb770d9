import EmulatorProtocol
import FoundationEssentials
import Testing

@Suite("Protocols/emulator-protocol.md")
struct DocumentTests {
    private static func text() throws -> String {
        let folder = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        return String(decoding: try Data(contentsOf: URL(filePath: "/\(folder)/Protocols/emulator-protocol.md")), as: UTF8.self)
    }

    /// The indented JSON objects of the document; one may go over several lines.
    private static func examples() throws -> [String] {
        var found: [String] = []
        var open = ""
        for line in try text().split(separator: "\n", omittingEmptySubsequences: false) {
            guard line.hasPrefix("    "), !open.isEmpty || line.hasPrefix("    {\"type\"") else {
                open = ""
                continue
            }
            open += line.drop { $0 == " " }
            if open.filter({ $0 == "{" }).count == open.filter({ $0 == "}" }).count {
                found.append(open)
                open = ""
            }
        }
        return found
    }

    @Test("Every example is a packet that the Swift side reads")
    func examplesAreRead() throws {
        let examples = try Self.examples()
        #expect(examples.count >= 14)
        for example in examples {
            #expect(throws: Never.self, "\(example)") { try Packet.decoded(Array(example.utf8)) }
        }
    }

    @Test("It names every reserved type, and every code of an error")
    func names() throws {
        let text = try Self.text()
        for type in Message.reserved { #expect(text.contains("| `\(type)` |"), "\(type)") }
        for code in [Refusal.Code.malformed, .unsupported, .clash, .invalid, .exhausted, .order, .host] {
            #expect(text.contains("| `\(code.rawValue)` |"), "\(code)")
        }
    }
}
