import Glibc

/// Lines for a person, on standard error: for what must be said before, or without, a log.
public enum StandardError {
    /// Longer lines are cut: a refusal of a stranger's may have 64 KiB.
    private static let longest = 8192

    /// Writes one line, with control characters as \xNN; what cannot be written is lost.
    public static func line(_ text: String) {
        try? Files.writeAll(Array((PrintableText.escaped(text, limit: longest) + "\n").utf8), to: STDERR_FILENO, what: "the standard error")
    }
}

/// What a command was run for, on standard output.
public enum StandardOutput {
    /// Writes bytes.
    /// - Throws: SystemError; EPIPE when the reader has gone away and SIGPIPE is ignored.
    public static func write(_ bytes: [UInt8]) throws(SystemError) {
        try Files.writeAll(bytes, to: STDOUT_FILENO, what: "the standard output")
    }
}
