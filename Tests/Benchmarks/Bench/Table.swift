import Glibc

/// Rows of text under a heading, in columns: the first to the left, the others to the right.
struct Table {
    private var rows: [[String]]

    init(_ heading: [String]) { rows = [heading] }

    mutating func add(_ cells: [String]) { rows.append(cells) }

    func print() {
        let columns = rows.map(\.count).max() ?? 0
        let widths = (0..<columns).map { column in rows.map { column < $0.count ? $0[column].utf8.count : 0 }.max() ?? 0 }
        for row in rows {
            let cells = row.enumerated().map { column, cell -> String in
                let space = String(repeating: " ", count: max(0, widths[column] - cell.utf8.count))
                return column == 0 ? cell + space : space + cell
            }
            Swift.print(cells.joined(separator: "  "))
        }
        // Into a pipe too, a table is seen when it is done.
        fflush(nil)
    }

    /// A number with that many digits after the point.
    static func text(_ value: Double, digits: Int = 2) -> String {
        guard value.isFinite else { return "-" }
        var buffer = [CChar](repeating: 0, count: 64)
        withVaList([CInt(digits), value]) { _ = vsnprintf(&buffer, buffer.count, "%.*f", $0) }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
