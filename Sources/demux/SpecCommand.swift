import ArgumentParser
import ControlProtocol
import Foundation
import Specification
import SpecificationFile

/// What `demux-dm` runs to learn what a guest's specification says, so that it needs no YAML itself.
struct SpecCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "spec",
        abstract: "Print a guest's specification, checked, as one line of JSON.",
        discussion: """
            Used by demux-dm. Without a file, the guest's own one is taken (guests/NAME.yaml in /etc/demux, or in \
            DEMUX_CONFIG_DIR), else demux.yaml there.
            """
    )

    @Argument(help: "The specification; without it, it is looked up by the guest's name.", completion: .file(extensions: ["yaml"]))
    var file: String?

    @Option(help: ArgumentHelp("The guest's name.", valueName: "guest"))
    var name: String?

    func run() throws { try Self.print(file: file, name: name) }

    private static func print(file: String?, name: String?) throws {
        try carryOut {
            let path = try reportingIssues { () throws(SpecificationErrors) in
                try SpecificationLookup.file(named: file, guest: name, environment: ProcessInfo.processInfo.environment)
            }
            Output.line(try specificationJSON(path))
        }
    }
}

extension SpecCommand {
    /// The command as `demux-dm` gives it, `spec [FILE] --name=GUEST`, and nothing else. In one word, because a guest's
    /// name may begin with a dash.
    struct Plain {
        private let file: String?
        private let name: String

        init?(_ arguments: [String]) {
            let option = "--name="
            guard (2...3).contains(arguments.count), arguments[0] == "spec", let last = arguments.last, last.hasPrefix(option)
            else { return nil }
            file = arguments.count == 3 ? arguments[1] : nil
            name = String(last.dropFirst(option.count))
            // What may be an option is the parser's.
            guard file?.hasPrefix("-") != true else { return nil }
        }

        func run() { do { try SpecCommand.print(file: file, name: name) } catch { SpecCommand.exit(withError: error) } }
    }
}

/// A file's specification, checked, as the one line of JSON that the coordinator reads.
func specificationJSON(_ file: String) throws -> String {
    String(decoding: ControlCodec.encode(try readSpecification(file)), as: UTF8.self)
}

/// Reads a specification; its issues go to the standard error one a line, without a prefix, as a compiler's would.
func readSpecification(_ file: String) throws -> GuestSpecification {
    try reportingIssues { () throws(SpecificationErrors) in try SpecificationReader().guest(file: file) }
}

/// Prints what a reader found wrong and ends the command.
func reportingIssues<Value>(_ read: () throws(SpecificationErrors) -> Value) throws -> Value {
    do {
        return try read()
    } catch {
        for issue in error.issues { Output.errorLine("\(issue)") }
        throw ExitCode.failure
    }
}
