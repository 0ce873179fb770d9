import Yams

/// One thing that is wrong in a specification: where, what, and what would be allowed there.
public struct SpecificationIssue: Equatable, Sendable, CustomStringConvertible {
    /// The file as the person named it.
    public let file: String
    /// From 1; nil when the whole file is meant, or what was written is not a file.
    public let line: Int?
    /// From 1, in Unicode scalars.
    public let column: Int?
    public let problem: String
    /// What is allowed instead; may be empty.
    public let allowed: String

    public init(file: String, line: Int? = nil, column: Int? = nil, problem: String, allowed: String = "") {
        self.file = file
        self.line = line
        self.column = column
        self.problem = problem
        self.allowed = allowed
    }

    public var description: String {
        var place = file
        if let line { place += ":\(line)" }
        if let column { place += ":\(column)" }
        return "\(place): \(problem)" + (allowed.isEmpty ? "" : "; \(allowed)")
    }
}

/// Everything that is wrong in a specification, in the file's order; never empty.
public struct SpecificationErrors: Error, Equatable, CustomStringConvertible {
    public let issues: [SpecificationIssue]

    public init(_ issues: [SpecificationIssue]) { self.issues = issues }

    /// One line for each issue.
    public var description: String { issues.map(\.description).joined(separator: "\n") }
}

/// Collects issues while a document is read, so that a person sees all of them at once.
final class Issues {
    let file: String
    private var found: [SpecificationIssue] = []

    init(file: String) { self.file = file }

    func add(at mark: Mark?, _ problem: String, allowed: String = "") {
        found.append(SpecificationIssue(file: file, line: mark?.line, column: mark?.column, problem: problem, allowed: allowed))
    }

    /// - Throws: what was found, if anything, in the file's order.
    func check() throws(SpecificationErrors) {
        guard !found.isEmpty else { return }
        let places = found.enumerated().sorted { left, right in
            // Equal places keep the order in which they were found.
            (left.element.line ?? 0, left.element.column ?? 0, left.offset) < (right.element.line ?? 0, right.element.column ?? 0, right.offset)
        }
        throw SpecificationErrors(places.map(\.element))
    }
}

/// Wording of messages.
enum Wording {
    /// What a person wrote, in quotes, on one line and not too long.
    static func quoted(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            if result.unicodeScalars.count >= 60 { return "'\(result)…'" }
            let control = scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value)
            result += control ? "\\x" + String(scalar.value, radix: 16) : String(scalar)
        }
        return "'\(result)'"
    }

    /// "'a', 'b' and 'c'".
    static func list(_ words: [String]) -> String {
        let marked = words.map { "'\($0)'" }
        guard let last = marked.last, marked.count > 1 else { return marked.first ?? "" }
        return marked.dropLast().joined(separator: ", ") + " and " + last
    }

    /// The known word that was probably meant: at most a third of its letters differ.
    static func nearest(to word: String, among known: [String]) -> String? {
        guard word.unicodeScalars.count <= 40 else { return nil }
        let ranked = known.map { (word: $0, distance: distance(word.lowercased(), $0)) }
        guard let best = ranked.min(by: { $0.distance < $1.distance }) else { return nil }
        return best.distance <= max(1, best.word.count / 3) ? best.word : nil
    }

    /// Letters to add, leave out, change, or swap with their neighbour (the optimal string alignment distance).
    static func distance(_ left: String, _ right: String) -> Int {
        let a = Array(left.unicodeScalars)
        let b = Array(right.unicodeScalars)
        var before: [Int] = []
        var previous = Array(0...b.count)
        for i in a.indices {
            var row = [i + 1]
            for j in b.indices {
                var cost = min(previous[j] + (a[i] == b[j] ? 0 : 1), previous[j + 1] + 1, row[j] + 1)
                if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { cost = min(cost, before[j - 1] + 1) }
                row.append(cost)
            }
            before = previous
            previous = row
        }
        return previous[b.count]
    }
}
