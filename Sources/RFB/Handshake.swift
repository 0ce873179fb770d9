/// The server's side of an RFB handshake up to ClientInit (RFC 6143, 7.1, with versions 3.3 and 3.7, and VeNCrypt 0.2), as a value that
/// does no input or output: fed with bytes, asked what to do next.
public struct Handshake: Sendable {
    public enum Action: Equatable, Sendable {
        case send([UInt8])
        /// Nothing may have come behind the viewer's last byte; TLS begins, and `tlsIsUp` tells when it stands.
        case startTLS(certificate: Bool)
        /// Whether this is the right answer to the challenge must be said by `decide`.
        case verify(challenge: [UInt8], answer: [UInt8])
        /// The viewer is in. `rest`: what it has sent beyond.
        case done(shared: Bool, rest: [UInt8])
        /// What is left to be sent has been said; the connection is to be closed.
        case refuse(String)
    }

    private enum State { case version, type, vencryptVersion, vencryptSubtype, tls, answer, deciding, clientInit, over }
    private enum Version { case v33, v37, v38 }

    private let offer: SecurityOffer
    private let makeChallenge: @Sendable () -> [UInt8]
    private var state = State.version
    private var version = Version.v38
    private var queue = ByteQueue()
    private var actions: [Action] = []
    private var challenge: [UInt8] = []
    private var subtype: SecuritySubtype?

    /// How the viewer came in, once it has.
    public private(set) var choice = SecurityChoice.none
    /// A reason to let nobody in from there now, said where the protocol has a place for it.
    public var refusal: String?

    /// What a server says first.
    public static let greeting = Array("RFB 003.008\n".utf8)

    public init(_ offer: SecurityOffer, challenge: @escaping @Sendable () -> [UInt8] = VNCAuthentication.challenge) {
        self.offer = offer
        makeChallenge = challenge
    }

    /// Takes bytes that came. More than a handshake can have is an error of the viewer's: see `next`.
    public mutating func append(_ bytes: [UInt8]) { queue.append(bytes) }

    /// The next thing to do; nil when more bytes are needed.
    public mutating func next() -> Action? {
        while actions.isEmpty {
            guard step() else { return nil }
        }
        return actions.removeFirst()
    }

    /// TLS stands; bytes appended from now on came through it.
    public mutating func tlsIsUp() {
        guard state == .tls else { return }
        authenticate()
    }

    /// The verdict on the answer to the challenge.
    public mutating func decide(isRight: Bool, reason: String = "the password is wrong") {
        guard state == .deciding else { return }
        guard isRight else {
            actions.append(.send(failure(reason)))
            return refuse(reason)
        }
        choice = subtype.map(SecurityChoice.vencrypt) ?? .vnc
        actions.append(.send([0, 0, 0, 0]))
        state = .clientInit
    }

    // MARK: the states

    /// False when nothing can be done without more bytes.
    private mutating func step() -> Bool {
        switch state {
        case .version: return takeVersion()
        case .type:
            guard let type = queue.take(1)?.first else { return false }
            guard type == offer.type else {
                refuseWithReason("that security type was not offered")
                return true
            }
            chosen(type)
        case .vencryptVersion:
            guard let wanted = queue.take(2) else { return false }
            guard Array(wanted) == [0, 2] else {
                actions.append(.send([1]))
                refuse("VeNCrypt \(wanted.map { "\($0)" }.joined(separator: ".")) was not offered")
                return true
            }
            let subtypes = offer.subtypes
            actions.append(.send(subtypes.reduce(into: [0, UInt8(subtypes.count)]) { $0.append32($1.rawValue) }))
            state = .vencryptSubtype
        case .vencryptSubtype:
            guard let bytes = queue.take(4) else { return false }
            guard let wanted = SecuritySubtype(rawValue: BigEndian.u32(bytes, at: 0)), offer.subtypes.contains(wanted) else {
                actions.append(.send([0]))
                refuse("that VeNCrypt type was not offered")
                return true
            }
            // Whatever came in the clear behind this must not be taken for something that came through TLS.
            guard queue.isEmpty else {
                refuse("bytes came between the choice of TLS and its start")
                return true
            }
            subtype = wanted
            choice = .vencrypt(wanted)
            state = .tls
            actions += [.send([1]), .startTLS(certificate: wanted.hasCertificate)]
        case .answer:
            guard let bytes = queue.take(VNCAuthentication.length) else { return false }
            state = .deciding
            actions.append(.verify(challenge: challenge, answer: Array(bytes)))
        case .clientInit:
            guard let shared = queue.take(1)?.first else { return false }
            state = .over
            actions.append(.done(shared: shared != 0, rest: queue.takeAll()))
        case .tls, .deciding, .over: return false
        }
        return true
    }

    private mutating func takeVersion() -> Bool {
        guard let bytes = queue.take(12) else { return false }
        let text = Array(bytes)
        func number(_ range: Range<Int>) -> Int? {
            text[range].allSatisfy { (0x30...0x39).contains($0) } ? text[range].reduce(0) { $0 * 10 + Int($1) - 0x30 } : nil
        }
        guard text.starts(with: "RFB ".utf8), text[7] == UInt8(ascii: "."), text[11] == UInt8(ascii: "\n"),
            let major = number(4..<7), let minor = number(8..<11), major >= 3
        else {
            refuse("it does not speak RFB")
            return true
        }
        // Others than 3.3, 3.7 and 3.8 were never published (RFC 6143, 7.1.1): lower ones are 3.3, higher ones take what 3.8 says.
        version = major > 3 || minor >= 8 ? .v38 : minor == 7 ? .v37 : .v33
        if let refusal {
            var message: [UInt8] = version == .v33 ? [0, 0, 0, 0] : [0]
            message += Self.text(refusal)
            actions.append(.send(message))
            refuse(refusal)
            return true
        }
        if version == .v33 {
            // The server decides, and has no word for VeNCrypt.
            guard offer.type != 19 else {
                actions.append(.send([0, 0, 0, 0] + Self.text("encryption is needed, and RFB 3.3 has none")))
                refuse("RFB 3.3 has no encryption")
                return true
            }
            actions.append(.send([0, 0, 0, offer.type]))
            chosen(offer.type)
        } else {
            actions.append(.send([1, offer.type]))
            state = .type
        }
        return true
    }

    private mutating func chosen(_ type: UInt8) {
        if type == 19 {
            actions.append(.send([0, 2]))
            state = .vencryptVersion
        } else {
            authenticate()
        }
    }

    private mutating func authenticate() {
        if offer.password {
            challenge = makeChallenge()
            actions.append(.send(challenge))
            state = .answer
        } else {
            if version == .v38 { actions.append(.send([0, 0, 0, 0])) }
            state = .clientInit
        }
    }

    private mutating func refuseWithReason(_ reason: String) {
        actions.append(.send(failure(reason)))
        refuse(reason)
    }

    /// A SecurityResult that says no; older versions have no room for a reason.
    private func failure(_ reason: String) -> [UInt8] { [0, 0, 0, 1] + (version == .v38 ? Self.text(reason) : []) }

    private mutating func refuse(_ reason: String) {
        state = .over
        actions.append(.refuse(reason))
    }

    private static func text(_ reason: String) -> [UInt8] {
        var result: [UInt8] = []
        result.append32(UInt32(reason.utf8.count))
        return result + reason.utf8
    }
}
