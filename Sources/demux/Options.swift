import ArgumentParser
import ControlProtocol
import Foundation
import Host

/// Where the running guests are, for every command that looks for one.
struct RunDirectoryOptions: ParsableArguments {
    @Option(
        name: .customLong("run-dir"),
        help: ArgumentHelp("Where running guests have their sockets (default: DEMUX_RUN_DIR, else /run/demux).", valueName: "directory"),
        completion: .directory)
    var runDirectory: String?

    /// An absolute path: the coordinator, which gets it as DEMUX_RUN_DIR, may work elsewhere.
    var base: String {
        let chosen = runDirectory.flatMap { $0.isEmpty ? nil : $0 } ?? RunDirectory.base(environment: ProcessInfo.processInfo.environment)
        return chosen.hasPrefix("/") ? chosen : "\(FileManager.default.currentDirectoryPath)/\(chosen)"
    }
}

/// A running guest, by its number or by its name.
enum GuestReference: ExpressibleByArgument, Equatable {
    case domain(UInt16)
    case name(String)

    init?(argument: String) {
        guard !argument.isEmpty else { return nil }
        guard argument.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            self = .name(argument)
            return
        }
        guard let domain = UInt16(argument).flatMap({ DomainID($0) }) else { return nil }
        self = .domain(domain.rawValue)
    }

    /// The guest's domain number; a name is looked for among the running guests.
    /// - Throws: CommandFailure when no guest, or more than one, has the name.
    func resolve(base: String) throws -> UInt16 {
        switch self {
        case .domain(let domain): return domain
        case .name(let name):
            try RunDirectory.checkReadable(base)
            let matches = Survey.take(base: base).compactMap { entry -> UInt16? in
                guard case .running(let status) = entry.state, status.name == name else { return nil }
                return entry.domain
            }
            guard let domain = matches.first else {
                throw CommandFailure("no running guest is called '\(Table.clean(name))'; 'demux list' shows those in \(base)")
            }
            guard matches.count == 1 else {
                throw CommandFailure(
                    "several guests are called '\(Table.clean(name))' (domains \(matches.map(String.init).joined(separator: ", "))); give the domain's number")
            }
            return domain
        }
    }
}

struct GuestOptions: ParsableArguments {
    @Argument(help: ArgumentHelp("The guest: its domain number or its name.", valueName: "guest"))
    var guest: GuestReference

    @OptionGroup var location: RunDirectoryOptions

    /// Opens the guest's control socket.
    func connect() throws -> ControlClient {
        let base = location.base
        return try ControlClient(domain: guest.resolve(base: base), base: base)
    }
}
