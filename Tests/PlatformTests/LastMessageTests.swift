import Platform
import Testing

@Suite("The end of a message socket")
struct LastMessageTests {
    @Test("what a peer sent before it closed is received, even if it left messages of ours unread")
    func lastMessage() throws {
        let (left, right) = try MessageSocket.pair()
        let ours = MessageSocket(adopting: OwnedDescriptor(adopting: left))
        do {
            let theirs = MessageSocket(adopting: OwnedDescriptor(adopting: right))
            try ours.send([1])
            try theirs.send([2])
        }
        guard case .message(let bytes, _) = try ours.receive() else {
            Issue.record("the last message was lost")
            return
        }
        #expect(bytes == [2])
        guard case .closed = try ours.receive() else {
            Issue.record("the socket is not closed after it")
            return
        }
    }
}
