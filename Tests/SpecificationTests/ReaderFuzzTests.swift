import SeededNumbers
import SpecificationFile
import Testing

@Suite("Mutated specifications")
struct ReaderFuzzTests {
    static let seed = """
        demux: 1
        qemu: /bin/true
        local: {vcpus: 2, memory: 64M, program: demo}
        emulators:
          - name: scratch
            program: sh
            arguments: [--level, 2, "a b"]
            mode: direct
            options: &o
              ports: 0x500
              mmio: 0xfed80000
              text: 'it''s'
              long: |
                two
                lines
            pci-slot: "00:05.0"
            interpose: ["ports 0x10-0x1f", "mmio 0xa0000-0xbffff", "pci 00:03.0"]
            ready-within: 5s
            user: 65534
          # a comment
          - {name: second, program: /bin/true, options: *o}

        """

    @Test("each one is read or refused with messages that name the file; nothing traps")
    func mutations() throws {
        var generator = SplitMix(state: 2)
        let seed = Array(Self.seed.utf8)
        let words = [
            "[", "]", "{", "}", ": ", "- ", "? ", "\n", "\t", "&a ", "*a", "!!str ", "! ", "!!binary ", "|\n", ">-\n", "'", "\"", "\\x", "\\0", "#", "%YAML 1.1\n",
            "---\n", "...\n", "<<: ", "~", "0x", "-1", "99999999999999999999", "name: ", "\u{feff}", "\u{0}", "é", "\u{85}", "\r", "\u{1f600}", ",",
        ].map { Array($0.utf8) }
        let reader = SpecificationReader(programs: ProgramFinder(directories: ["/bin"]))
        _ = try reader.guest(text: seed, file: "fuzz.yaml")
        var accepted = 0
        for _ in 0..<4000 {
            var text = seed
            for _ in 0..<Int.random(in: 1...6, using: &generator) {
                let place = Int.random(in: 0...text.count, using: &generator)
                switch Int.random(in: 0..<6, using: &generator) {
                case 0 where place < text.count: text[place] = UInt8.random(in: 0...255, using: &generator)
                case 1 where place < text.count: text.remove(at: place)
                case 2: text.removeSubrange(place..<min(text.count, place + Int.random(in: 0...40, using: &generator)))
                case 3:
                    let from = Int.random(in: 0...text.count, using: &generator)
                    text.insert(contentsOf: Array(text[from..<min(text.count, from + Int.random(in: 0...80, using: &generator))]), at: place)
                default: text.insert(contentsOf: words.randomElement(using: &generator) ?? [], at: place)
                }
            }
            do {
                _ = try reader.guest(text: text, file: "fuzz.yaml")
                accepted += 1
            } catch {
                #expect(!error.issues.isEmpty)
                for issue in error.issues where !issue.description.hasPrefix("fuzz.yaml:") || issue.problem.isEmpty || (issue.line ?? 1) < 1 {
                    Issue.record("\(issue)")
                }
            }
        }
        // Some changes fall into the comment or into a value.
        #expect(accepted > 0 && accepted < 4000)
    }
}
