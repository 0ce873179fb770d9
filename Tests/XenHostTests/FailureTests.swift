import Glibc
import Host
import Testing

@testable import XenHost

@Suite("What an errno of Xen's means")
struct FailureTests {
    private func error(_ call: XenFailure.Call, _ code: CInt) throws -> HostError {
        XenFailure.error("map", "ports", call, code: code, domain: try #require(DomainID(7)))
    }

    @Test("the same errno means what it means for the call that gave it")
    func reasons() throws {
        let server = try #require(ServerID(3))
        let expected: [(XenFailure.Call, CInt, HostError.Reason)] = [
            (.create, ENOSPC, .noFreeServer), (.map(server), ENOSPC, .tooManyRanges), (.map(server), ENOMEM, .tooManyRanges),
            (.map(server), EEXIST, .rangeOverlap), (.map(server), ENOENT, .noSuchServer), (.map(server), EINVAL, .invalid),
            (.unmap(server), ENOENT, .noSuchRange), (.unmap(server), ENOMEM, .failed(ENOMEM)), (.server(server), ENOENT, .noSuchServer),
            (.bind(server), EINVAL, .invalid), (.domain, EINVAL, .invalid), (.domain, E2BIG, .invalid), (.create, EPERM, .notPermitted),
            (.domain, EACCES, .notPermitted), (.create, ESRCH, .noSuchDomain), (.server(server), ESRCH, .noSuchDomain), (.domain, EIO, .failed(EIO)),
        ]
        for (call, code, reason) in expected {
            let error = try error(call, code)
            #expect(error.reason == reason, "\(call), errno \(code)")
            #expect(!error.detail.isEmpty)
        }
    }

    @Test("a refusal names the domain or the server, and what to do")
    func words() throws {
        let full = try error(.map(try #require(ServerID(3))), ENOMEM)
        #expect("\(full)" == "could not map ports: ioreq server 3 has 256 separate ranges of that kind already; claim larger or adjacent ranges")
        #expect("\(try error(.create, ESRCH))".contains("domain 7 does not exist"))
    }
}
