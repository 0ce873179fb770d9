import CLinux
import Glibc
import Yams

/// A YAML file as nodes with their places.
enum Document {
    /// The longest file that is read, in bytes: some hundred times what a guest needs.
    static let largestFile = 65_536
    /// An alias repeats what its anchor holds, so that a few dozen can stand for a document of any size.
    static let mostAliases = 32

    /// - Throws: one issue when the file cannot be read or is not one YAML document.
    static func read(file: String) throws(SpecificationErrors) -> Node {
        try parse(bytes(of: file), file: file)
    }

    /// - Throws: one issue when the bytes are not one YAML document.
    static func parse(_ bytes: [UInt8], file: String) throws(SpecificationErrors) -> Node {
        guard bytes.count <= largestFile else {
            throw one(file, nil, "the file has more than \(largestFile) bytes", "a specification is shorter")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw one(file, firstInvalidPlace(in: bytes), "this is not UTF-8 text", "a specification is YAML in UTF-8")
        }
        guard aliasLikeWords(in: bytes) <= mostAliases else {
            throw one(file, nil, "more than \(mostAliases) words begin with '*', as YAML's aliases do", "write the values out")
        }
        do {
            // Without rules for what looks like a number or a date: we ask for texts, and the rules' patterns take a tenth of the command's time.
            if let root = try Parser(yaml: text, resolver: .basic).singleRoot() { return root }
        } catch let error as YamlError {
            throw SpecificationErrors([issue(error, file: file)])
        } catch {
            throw one(file, nil, "could not read it as YAML: \(error)", "")
        }
        throw one(file, (1, 1), "the file is empty", "the smallest specification is 'demux: 1'")
    }

    // MARK: - Reading

    private static func bytes(of file: String) throws(SpecificationErrors) -> [UInt8] {
        // A FIFO that nobody writes to would hold the opening up, and a terminal or a socket the reading.
        let isGiven = isGivenDescriptor(file)
        let descriptor = file == "-" ? demux_duplicate(STDIN_FILENO) : open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | (isGiven ? 0 : O_NONBLOCK))
        guard descriptor >= 0 else { throw unreadable(file, errno) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw unreadable(file, errno) }
        guard isGiven || status.st_mode & S_IFMT == S_IFREG || status.st_mode & S_IFMT == S_IFDIR else {
            throw one(file, nil, "it is a pipe, a socket or a device, and a specification is a file", "'-' reads the standard input")
        }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 16_384)
        // One byte more than allowed tells a file that is too long.
        while bytes.count <= largestFile {
            let got = Glibc.read(descriptor, &piece, piece.count)
            if got < 0 && errno == EINTR { continue }
            guard got >= 0 else { throw unreadable(file, errno) }
            if got == 0 { break }
            bytes.append(contentsOf: piece.prefix(got))
        }
        return bytes
    }

    /// Whether a name stands for a descriptor that this process was given on purpose: `-`, or what a shell's `<(…)` makes.
    private static func isGivenDescriptor(_ file: String) -> Bool {
        file == "-" || file == "/dev/stdin" || file.hasPrefix("/dev/fd/") || file.hasPrefix("/proc/self/fd/")
    }

    private static func unreadable(_ file: String, _ code: CInt) -> SpecificationErrors {
        let remedy: String
        switch code {
        case ENOENT: remedy = "check the path"
        case EACCES, EPERM: remedy = "uid \(geteuid()) must be allowed to read it"
        case EISDIR: remedy = "name a file"
        default: remedy = ""
        }
        return one(file, nil, "could not read the file: \(String(cString: strerror(code)))", remedy)
    }

    private static func one(_ file: String, _ place: (line: Int, column: Int)?, _ problem: String, _ allowed: String) -> SpecificationErrors {
        SpecificationErrors([SpecificationIssue(file: file, line: place?.line, column: place?.column, problem: problem, allowed: allowed)])
    }

    /// Where the first byte lies that is not part of a UTF-8 sequence.
    private static func firstInvalidPlace(in bytes: [UInt8]) -> (line: Int, column: Int) {
        var line = 1
        var column = 1
        var decoder = UTF8()
        var input = bytes.makeIterator()
        while case .scalarValue(let scalar) = decoder.decode(&input) {
            if scalar == "\n" {
                line += 1
                column = 1
            } else {
                column += 1
            }
        }
        return (line, column)
    }

    /// Every alias is such a word; a quoted text may hold some as well, so that this is at least their number.
    private static func aliasLikeWords(in bytes: [UInt8]) -> Int {
        var count = 0
        var before: UInt8 = 0x20
        for byte in bytes {
            if byte == UInt8(ascii: "*"), before <= 0x20 || before >= 0x80 || "[]{},:?-\"'&!|>".utf8.contains(before) { count += 1 }
            before = byte
        }
        return count
    }

    private static func issue(_ error: YamlError, file: String) -> SpecificationIssue {
        func invalid(_ mark: Mark, _ context: YamlError.Context?, _ problem: String) -> SpecificationIssue {
            let during = context.map { "\($0.text) that begins at line \($0.mark.line): " } ?? ""
            return SpecificationIssue(file: file, line: mark.line, column: mark.column, problem: "this is not valid YAML: \(during)\(problem)")
        }
        switch error {
        case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _):
            return invalid(mark, context, problem)
        case .composer(let context, let problem, let mark, _):
            // Its context says where the stream began, which helps nobody.
            return invalid(mark, nil, context.map { "\($0.text) \(problem)" } ?? problem)
        case .reader(let problem, let offset, _, let text):
            var line = 1
            var column = 1
            for scalar in text.prefix(offset ?? 0).unicodeScalars {
                if scalar == "\n" {
                    line += 1
                    column = 1
                } else {
                    column += 1
                }
            }
            return SpecificationIssue(file: file, line: line, column: column, problem: "this is not valid YAML: \(problem)")
        case .duplicatedKeysInMapping(let keys, let context):
            return SpecificationIssue(
                file: file, line: context.mark.line, column: context.mark.column,
                problem: "the key \(Wording.list(keys.map { String($0.prefix(60)) })) is given more than once in the mapping that has it here",
                allowed: "each key may be given once")
        default:
            return SpecificationIssue(file: file, problem: "this is not valid YAML: \(error)")
        }
    }
}
