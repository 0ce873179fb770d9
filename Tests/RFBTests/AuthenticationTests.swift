import SeededNumbers
import Testing

@testable import RFB

@Suite("Passwords")
struct AuthenticationTests {
    private func hex(_ text: String) -> [UInt8] {
        stride(from: 0, to: text.utf8.count, by: 2).map { index in
            let start = text.index(text.startIndex, offsetBy: index)
            return UInt8(text[start..<text.index(start, offsetBy: 2)], radix: 16) ?? 0
        }
    }

    // NIST SP 800-17, appendix B, and the example that FIPS 81 is known by.
    @Test("DES encrypts the published vectors", arguments: [
        ("0123456789abcdef", "4e6f772069732074", "3fa40e8a984d4815"), ("8001010101010101", "0000000000000000", "95a8d72813daa94d"),
        ("0101010101010101", "8000000000000000", "95f8a5e5dd31d900"), ("133457799bbcdff1", "0123456789abcdef", "85e813540f0ab405"),
    ])
    func desEncryptsPublishedVectors(key: String, plain: String, sealed: String) {
        #expect(DES(key: hex(key)).encrypt(UInt64(plain, radix: 16) ?? 0) == UInt64(sealed, radix: 16))
    }

    @Test("only the right password is accepted, and only its first eight bytes count")
    func onlyRightPasswordAccepted() {
        let challenge = VNCAuthentication.challenge()
        let answer = VNCAuthentication.answer(to: challenge, password: "secret12")
        #expect(answer.count == 16)
        #expect(VNCAuthentication.isRight(answer, challenge: challenge, password: "secret12"))
        #expect(VNCAuthentication.isRight(answer, challenge: challenge, password: "secret12345"))
        #expect(!VNCAuthentication.isRight(answer, challenge: challenge, password: "secret13"))
        #expect(!VNCAuthentication.isRight(answer, challenge: challenge, password: ""))
        #expect(!VNCAuthentication.isRight([], challenge: challenge, password: "secret12"))
        #expect(!VNCAuthentication.isRight(answer, challenge: VNCAuthentication.challenge(), password: "secret12"))
    }

    @Test("an answer that differs in any bit is wrong, and so are 20,000 other ones")
    func wrongAnswers() {
        var random = SplitMix(state: 0x5ec)
        let challenge = [UInt8](0..<16)
        let answer = VNCAuthentication.answer(to: challenge, password: "right")
        for bit in 0..<128 {
            var other = answer
            other[bit / 8] ^= 1 << (bit % 8)
            #expect(!VNCAuthentication.isRight(other, challenge: challenge, password: "right"), "bit \(bit)")
        }
        let accepted = (0..<20_000).count { _ in
            VNCAuthentication.isRight((0..<16).map { _ in UInt8(truncatingIfNeeded: random.next()) }, challenge: challenge, password: "right")
        }
        #expect(accepted == 0)
    }

    @Test("challenges differ")
    func challengesDiffer() {
        #expect(Set((0..<100).map { _ in VNCAuthentication.challenge() }).count == 100)
    }

    @Test("where a password is required and none is set, nobody gets in")
    func passwordRequiredNoneSet() {
        let challenge = VNCAuthentication.challenge()
        var policy = PasswordPolicy(required: true)
        #expect(!policy.accepts(VNCAuthentication.answer(to: challenge, password: ""), challenge: challenge, now: 0))
        policy.set("x")
        #expect(policy.accepts(VNCAuthentication.answer(to: challenge, password: "x"), challenge: challenge, now: 0))
        policy.set(nil)
        #expect(!policy.accepts(VNCAuthentication.answer(to: challenge, password: "x"), challenge: challenge, now: 0))
    }

    @Test("a password expires when it is told to", arguments: [
        ("now", 1_000, false), ("never", 1 << 39, true), ("+30", 1_029, true), ("+30", 1_030, false), ("2000", 1_999, true), ("2000", 2_000, false),
    ])
    func passwordExpiresWhenTold(at: String, then: UInt64, accepted: Bool) {
        let challenge = VNCAuthentication.challenge()
        var policy = PasswordPolicy(required: true, password: "x")
        let isTime = policy.expire(at, now: 1_000)
        #expect(isTime)
        #expect(policy.accepts(VNCAuthentication.answer(to: challenge, password: "x"), challenge: challenge, now: then) == accepted)
    }

    @Test("what is no time does not change the expiry", arguments: ["", "soon", "+", "-1", "99999999999999999999", "+99999999999999"])
    func noTime(at: String) {
        var policy = PasswordPolicy(required: true, password: "x")
        let isTime = policy.expire(at, now: 1_000)
        #expect(!isTime)
    }

    @Test("guessing slows down, up to a minute, for the address alone, until the right password comes")
    func guessingSlowsDownUp() {
        var throttle = PasswordThrottle()
        let second: UInt64 = 1_000_000_000
        var now: UInt64 = 5 * second
        for _ in 0..<PasswordThrottle.free {
            #expect(throttle.wait(for: "a", now: now) == 0)
            throttle.failed("a", now: now)
        }
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] as [UInt64] {
            #expect(throttle.wait(for: "a", now: now) == 0)
            throttle.failed("a", now: now)
            #expect(throttle.wait(for: "a", now: now) == wait)
            #expect(throttle.wait(for: "b", now: now) == 0)
            now += wait * second
        }
        throttle.succeeded("a")
        throttle.failed("a", now: now)
        #expect(throttle.wait(for: "a", now: now) == 0)
    }

    @Test("the throttle remembers a bounded number of addresses")
    func throttleRemembersBoundedNumber() {
        var throttle = PasswordThrottle()
        for index in 0..<20_000 { throttle.failed("\(index)", now: UInt64(index)) }
        for _ in 0..<20 { throttle.failed("again", now: 20_000) }
        #expect(throttle.wait(for: "again", now: 20_000) == 60)
    }
}
