import ArgumentParser
import CLinux
import Glibc
import Platform

/// Why a command could not do what it was asked: printed as it is on the standard error, exit code 1.
struct CommandFailure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

/// Where a command's words go.
enum Output {
    /// Writes a line to the standard output.
    static func line(_ text: String) { write(text + "\n") }

    static func errorLine(_ text: String) { StandardError.line(text) }

    /// Writes to the standard output. A reader that has gone away (`demux status | head`) ends the command quietly;
    /// when anything else keeps
    /// the words from getting there, the command ends with 1 and says so, because it has not done what it was asked.
    static func write(_ text: String) { write(Array(text.utf8)) }

    static func write(_ bytes: [UInt8]) {
        do throws(SystemError) { try StandardOutput.write(bytes) } catch { end(error) }
    }

    /// What the command line's parser prints is written at the process's end: that it could be is looked at then.
    static func checkAtExit() {
        atexit {
            guard demux_flush_output() != 0 else { return }
            if errno != EPIPE { Output.errorLine("demux: \(SystemError("write", "the standard output"))") }
            _exit(1)
        }
    }

    private static func end(_ error: SystemError) -> Never {
        if error.code == EPIPE {
            // Whoever started this process ignores SIGPIPE; the convention is to end by it.
            signal(SIGPIPE, SIG_DFL)
            raise(SIGPIPE)
        } else {
            errorLine("demux: \(error)")
        }
        exit(1)
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
