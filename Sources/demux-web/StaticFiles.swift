import Glibc
import Platform

/// Files below one folder, for a browser.
struct StaticFiles: Sendable {
    let folder: String
    /// noVNC's largest file has about 100 KB.
    private static let largest = 4 << 20

    private static let types = [
        "html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "json": "application/json",
        "png": "image/png", "svg": "image/svg+xml", "ico": "image/x-icon", "woff": "font/woff", "ttf": "font/ttf", "mp3": "audio/mpeg", "oga": "audio/ogg",
    ]

    /// A file's bytes and type; nil when there is none of a type that browsers need, or it lies elsewhere.
    func file(_ path: String) -> (bytes: [UInt8], type: String)? {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        let plain = parts.allSatisfy { part in
            !part.isEmpty && part.first != "." && part.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "\\") && $0 != UInt8(ascii: "%") }
        }
        guard plain, let ending = parts.last?.split(separator: ".").last, let type = Self.types[String(ending)] else { return nil }
        // Links may lead to other packages' files, which root installed; nobody else can write there.
        guard let opened = try? Files.open("\(folder)/\(path)") else { return nil }
        var status = stat()
        guard fstat(opened.raw, &status) == 0, status.st_mode & S_IFMT == S_IFREG,
            let bytes = try? Files.readAll(opened.raw, limit: Self.largest, what: path)
        else { return nil }
        return (bytes, type)
    }
}
