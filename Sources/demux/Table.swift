import Platform

/// Rows of text in aligned columns.
struct Table {
    enum Alignment { case left, right }

    struct Column {
        let title: String
        let alignment: Alignment

        init(_ title: String, _ alignment: Alignment = .left) {
            self.title = title
            self.alignment = alignment
        }
    }

    /// Between two columns.
    private static let gap = "  "

    let columns: [Column]
    private(set) var rows: [[String]] = []

    init(_ columns: [Column]) { self.columns = columns }

    /// Adds a row; cells that are missing stay empty, those beyond the columns are left out.
    mutating func add(_ cells: [String]) {
        var cells = cells.prefix(columns.count).map(Self.clean)
        while cells.count < columns.count { cells.append("") }
        rows.append(cells)
    }

    /// The title line, then one line for each row, without spaces at their ends.
    func lines(style: Style = .plain) -> [String] {
        var widths = columns.map(\.title.count)
        for row in rows {
            for (index, cell) in row.enumerated() { widths[index] = max(widths[index], cell.count) }
        }
        func line(_ cells: [String]) -> String {
            var result = ""
            for (index, cell) in cells.enumerated() {
                let space = String(repeating: " ", count: widths[index] - cell.count)
                if index > 0 { result += Self.gap }
                result += columns[index].alignment == .left ? cell + space : space + cell
            }
            while result.last == " " { result.removeLast() }
            return result
        }
        return [style.title(line(columns.map(\.title)))] + rows.map(line)
    }

    /// A text as it may go to a terminal: what emulators and guests have a say in must not move the cursor.
    static func clean(_ text: String) -> String { PrintableText.escaped(text, limit: .max) }
}

/// How text is set off: with escape sequences on a terminal, not at all elsewhere.
enum Style {
    case plain, terminal

    func title(_ text: String) -> String { self == .terminal ? "\u{1b}[1m\(text)\u{1b}[0m" : text }
}
