import Platform
import Synchronization

/// One request's way to its answer, for those that answer later or on another thread.
public struct HTTPExchange: Sendable {
    let connection: UInt64
    /// Tunnels for which there is room at this moment.
    public let tunnelsLeft: Int
    let answers: LateAnswers

    /// Answers. Nothing happens when the client is gone, or was answered already.
    public func answer(_ response: HTTPResponse) { answers.put(response, for: connection) }
}

/// Answers on their way to the server's thread: at most one for each request that waits for one.
final class LateAnswers: Sendable {
    private let waiting = Mutex<[(connection: UInt64, response: HTTPResponse)]>([])
    private let bell: EventFD

    init() throws(SystemError) { bell = try EventFD() }

    /// Readable while there are answers.
    var descriptor: CInt { bell.descriptor.raw }

    func put(_ response: HTTPResponse, for connection: UInt64) {
        waiting.withLock { $0.append((connection, response)) }
        bell.ring()
    }

    func take() -> [(connection: UInt64, response: HTTPResponse)] {
        bell.clear()
        return waiting.withLock { waiting in
            defer { waiting = [] }
            return waiting
        }
    }
}
