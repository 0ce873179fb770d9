import ControlProtocol
import Platform

/// A connection to one guest's coordinator.
struct ControlClient: ~Copyable {
    static let answerLimit = ControlSocket.answerLimit

    let domain: UInt16
    let base: String
    private let socket: MessageSocket

    /// - Throws: CommandFailure that says what to do.
    init(domain: UInt16, base: String) throws {
        self.domain = domain
        self.base = base
        do {
            socket = try ControlSocket.connect(domain: domain, base: base, limit: ControlSocket.answerLimit)
        } catch {
            throw CommandFailure(error.message(domain: domain, base: base))
        }
    }

    /// Whose socket it is.
    var pid: Int32? { (try? UnixSocket.peer(of: socket.descriptor.raw))?.pid }

    /// Asks and waits for the answer.
    /// - Throws: CommandFailure when there is none, or when the request was refused.
    borrowing func ask(_ request: ControlRequest, limit: Duration = answerLimit) throws -> ControlReply {
        let reply: ControlReply
        do {
            try ControlSocket.send(request, on: socket)
            reply = try ControlSocket.receive(on: socket, limit: limit)
        } catch {
            throw CommandFailure(error.message(domain: domain, base: base))
        }
        if case .failed(let reason) = reply { throw CommandFailure(Table.clean(reason)) }
        return reply
    }

    /// Asks for the status.
    borrowing func status() throws -> GuestStatus {
        guard case .status(let status) = try ask(.status) else { throw unexpected }
        return status
    }

    /// For a reply that does not belong to the request.
    var unexpected: CommandFailure {
        CommandFailure("the coordinator of domain \(domain) gave an answer to something else; it and this command must be of the same version")
    }
}
