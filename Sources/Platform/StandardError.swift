import Glibc

/// Lines for a person, on standard error: for what must be said before, or without, a log.
public enum StandardError {
    /// Longer lines are cut: a refusal of a stranger's may have 64 KiB.
    private static let longest = 8192

    /// Writes one line, with control characters as \xNN; what cannot be written is lost.
    public static func line(_ text: String) {
        let bytes = Array((PrintableText.escaped(text, limit: longest) + "\n").utf8)
        var written = 0
        while written < bytes.count {
            let count = bytes[written...].withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { return }
            written += count
        }
    }
}
