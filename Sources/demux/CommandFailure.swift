import ArgumentParser
import Glibc

/// Why a command could not do what it was asked: printed as it is on the standard error, exit code 1.
struct CommandFailure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

/// Where a command's words go.
enum Output {
    /// Writes a line to the standard output. A reader that has gone away (`demux status | head`) ends the command quietly.
    static func line(_ text: String) { write(text + "\n", to: STDOUT_FILENO) }

    static func errorLine(_ text: String) { write(text + "\n", to: STDERR_FILENO) }

    static func write(_ text: String, to descriptor: CInt) {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let written = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if written < 0 && errno == EINTR { continue }
            guard written > 0 else { return }
            bytes = bytes.dropFirst(written)
        }
    }
}

/// Carries a command's work out and says why it failed, without a usage text: the command line was right.
func carryOut(_ work: () throws -> Void) throws {
    do {
        try work()
    } catch let exit as ExitCode {
        throw exit
    } catch {
        Output.errorLine("demux: \(error)")
        throw ExitCode.failure
    }
}
