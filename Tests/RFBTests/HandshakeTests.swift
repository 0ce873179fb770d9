import Testing

@testable import RFB

@Suite("The handshake")
struct HandshakeTests {
    private static let challenge = [UInt8](0..<16)

    private func make(_ offer: SecurityOffer) -> Handshake { Handshake(offer, challenge: { Self.challenge }) }

    private func actions(_ handshake: inout Handshake, _ bytes: [UInt8]) -> [Handshake.Action] {
        handshake.append(bytes)
        var result: [Handshake.Action] = []
        while let action = handshake.next() { result.append(action) }
        return result
    }

    private func reason(_ text: String) -> [UInt8] { [0, 0, 0, UInt8(text.utf8.count)] + text.utf8 }

    @Test("without a password a viewer of 3 point 8 is told that it is in")
    func withoutPasswordViewer3() {
        var handshake = make(SecurityOffer(password: false))
        #expect(actions(&handshake, Array("RFB 003.008\n".utf8)) == [.send([1, 1])])
        #expect(actions(&handshake, [1]) == [.send([0, 0, 0, 0])])
        #expect(actions(&handshake, [1, 3, 0]) == [.done(shared: true, rest: [3, 0])])
        #expect(handshake.choice == .none)
    }

    @Test("a viewer of 3 point 3 is not asked", arguments: ["RFB 003.003\n", "RFB 003.005\n", "RFB 003.006\n"])
    func viewer3Point3(version: String) {
        var handshake = make(SecurityOffer(password: false))
        #expect(actions(&handshake, Array(version.utf8)) == [.send([0, 0, 0, 1])])
        #expect(actions(&handshake, [0]) == [.done(shared: false, rest: [])])
    }

    @Test("a viewer of 3 point 7 gets no result without a password")
    func viewer3Point7() {
        var handshake = make(SecurityOffer(password: false))
        #expect(actions(&handshake, Array("RFB 003.007\n".utf8)) == [.send([1, 1])])
        #expect(actions(&handshake, [1, 0]) == [.done(shared: false, rest: [])])
    }

    @Test("later versions are taken as 3 point 8", arguments: ["RFB 003.889\n", "RFB 004.001\n", "RFB 005.000\n"])
    func laterVersionsTaken3(version: String) {
        var handshake = make(SecurityOffer(password: true))
        #expect(actions(&handshake, Array(version.utf8)) == [.send([1, 2])])
    }

    @Test("the answer to the challenge is handed out, and the verdict taken")
    func answerChallengeHandedOut() {
        for isRight in [true, false] {
            var handshake = make(SecurityOffer(password: true))
            _ = actions(&handshake, Array("RFB 003.008\n".utf8))
            #expect(actions(&handshake, [2]) == [.send(Self.challenge)])
            #expect(actions(&handshake, [UInt8](repeating: 7, count: 15)) == [])
            #expect(actions(&handshake, [7]) == [.verify(challenge: Self.challenge, answer: [UInt8](repeating: 7, count: 16))])
            // What comes before the verdict waits for it.
            #expect(actions(&handshake, [1]) == [])
            handshake.decide(isRight: isRight)
            if isRight {
                #expect(actions(&handshake, []) == [.send([0, 0, 0, 0]), .done(shared: true, rest: [])])
                #expect(handshake.choice == .vnc)
            } else {
                #expect(actions(&handshake, []) == [.send([0, 0, 0, 1] + reason("the password is wrong")), .refuse("the password is wrong")])
                #expect(actions(&handshake, [1, 1, 1]) == [])
            }
        }
    }

    @Test("VeNCrypt leads through TLS to the password")
    func vencryptLeadsThroughTls() {
        var handshake = make(SecurityOffer(password: true, x509: true, anonymous: true))
        #expect(actions(&handshake, Array("RFB 003.008\n".utf8)) == [.send([1, 19])])
        #expect(actions(&handshake, [19]) == [.send([0, 2])])
        #expect(actions(&handshake, [0, 2]) == [.send([0, 2, 0, 0, 1, 5, 0, 0, 1, 2])])
        #expect(actions(&handshake, [0, 0, 1, 5]) == [.send([1]), .startTLS(certificate: true)])
        #expect(actions(&handshake, []) == [])
        handshake.tlsIsUp()
        #expect(actions(&handshake, []) == [.send(Self.challenge)])
        #expect(actions(&handshake, [UInt8](repeating: 0, count: 16)).count == 1)
        handshake.decide(isRight: true)
        #expect(actions(&handshake, [0]) == [.send([0, 0, 0, 0]), .done(shared: false, rest: [])])
        #expect(handshake.choice == .vencrypt(.x509VNC))
        #expect("\(handshake.choice)" == "vencrypt+x509+vnc")
    }

    @Test("bytes between the choice of TLS and its start are never taken for something that came through it")
    func bytesBetweenChoiceTls() {
        var handshake = make(SecurityOffer(password: false, anonymous: true))
        _ = actions(&handshake, Array("RFB 003.008\n".utf8) + [19, 0, 2])
        #expect(actions(&handshake, [0, 0, 1, 1, 1]) == [.refuse("bytes came between the choice of TLS and its start")])
    }

    @Test("VeNCrypt refuses other versions and types")
    func vencryptRefusesOtherVersions() {
        var handshake = make(SecurityOffer(password: true, x509: true))
        _ = actions(&handshake, Array("RFB 003.008\n".utf8) + [19])
        var other = handshake
        #expect(actions(&handshake, [0, 1]) == [.send([1]), .refuse("VeNCrypt 0.1 was not offered")])
        #expect(actions(&other, [0, 2, 0, 0, 1, 4]).suffix(2) == [.send([0]), .refuse("that VeNCrypt type was not offered")])
    }

    @Test("where encryption is needed, a viewer that has none is told so")
    func encryptionNeededViewerHas() {
        var old = make(SecurityOffer(password: true, x509: true))
        #expect(actions(&old, Array("RFB 003.003\n".utf8)).last == .refuse("RFB 3.3 has no encryption"))
        for type in [1, 2, 0, 255] as [UInt8] {
            var handshake = make(SecurityOffer(password: true, x509: true))
            _ = actions(&handshake, Array("RFB 003.008\n".utf8))
            #expect(actions(&handshake, [type]).last == .refuse("that security type was not offered"))
        }
    }

    @Test("a type that was not offered is refused, none where a password is needed above all")
    func typeWasOfferedRefused() {
        var handshake = make(SecurityOffer(password: true))
        _ = actions(&handshake, Array("RFB 003.008\n".utf8))
        let text = "that security type was not offered"
        #expect(actions(&handshake, [1, 1]) == [.send([0, 0, 0, 1] + reason(text)), .refuse(text)])
    }

    @Test("an address that must wait is told so in each version's way")
    func addressMustWaitTold() {
        for (version, start) in [("RFB 003.003\n", [0, 0, 0, 0]), ("RFB 003.008\n", [0])] as [(String, [UInt8])] {
            var handshake = make(SecurityOffer(password: true))
            handshake.refusal = "wait"
            #expect(actions(&handshake, Array(version.utf8)) == [.send(start + reason("wait")), .refuse("wait")])
        }
    }

    @Test("what is not RFB is refused without a word", arguments: ["GET / HTTP/1.", "RFB 003,008\n", "RFB 002.000\n", "RFB 0x3.008\n", "RFB 003.008 ", "\u{16}\u{3}\u{1}000000000"])
    func whatRfbRefusedWithout(text: String) {
        var handshake = make(SecurityOffer(password: false))
        #expect(actions(&handshake, Array(text.utf8.prefix(12))) == [.refuse("it does not speak RFB")])
    }

    @Test("bytes that arrive one by one make no difference")
    func bytesArriveOneBy() {
        var handshake = make(SecurityOffer(password: true))
        var result: [Handshake.Action] = []
        for byte in Array("RFB 003.008\n".utf8) + [2] + [UInt8](repeating: 9, count: 16) { result += actions(&handshake, [byte]) }
        #expect(result == [.send([1, 2]), .send(Self.challenge), .verify(challenge: Self.challenge, answer: [UInt8](repeating: 9, count: 16))])
    }
}
