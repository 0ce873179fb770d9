import ControlProtocol
import Glibc
import Platform
import Specification

/// A guest without Xen that does nothing: a coordinator as `demux run` starts it, with Scratch, the display and its exporter.
final class IdleGuest {
    let process: ChildProcess
    /// The UNIX socket of its VNC server.
    let viewers: String
    /// Nanoseconds from the coordinator's start to its word that every emulator serves.
    let startTime: UInt64

    /// - Parameters:
    ///   - bin: the folder of the programs.
    ///   - base: the run directory.
    init(bin: String, number: Int, base: String) throws {
        viewers = "\(base)/\(number)/vnc.sock"
        var specification = GuestSpecification(source: "bench-density")
        specification.local = LocalGuest(vcpus: 1, memoryMiB: 16, program: "idle")
        // The machine starts many at once here: nothing may fail for being late.
        specification.emulators = [EmulatorSpecification(name: "scratch", program: bin + "/demux-scratch", readyWithinMilliseconds: 60_000)]
        specification.display = EmulatorSpecification(
            name: "display", program: bin + "/demux-display", options: ["memory": "\(16 << 20)"], readyWithinMilliseconds: 60_000)
        specification.vnc = VNCSpecification(program: bin + "/demux-vnc", readyWithinMilliseconds: 60_000)
        let json = ControlCodec.encode(specification)
        let input = try SharedMemory(name: "specification", length: json.count)
        guard pwrite(input.descriptor.raw, json, json.count, 0) == json.count else { throw SystemError("write", "a specification") }
        let output = try Files.pipe()
        let reading = OwnedDescriptor(adopting: output.read)
        let writing = OwnedDescriptor(adopting: output.write)
        var environment = ChildProcess.currentEnvironment()
        environment["DEMUX_RUN_DIR"] = base
        let begin = EventLoop.now()
        process = try ChildProcess(
            program: bin + "/demux-dm", arguments: ["--local", "--domid", "\(number)", "--spec-json", "-"], environment: environment,
            inherited: [.init(ours: input.descriptor.raw, theirs: 0), .init(ours: writing.raw, theirs: 2)])
        do {
            try Self.await("runs: ", from: reading.raw, of: process)
        } catch {
            process.signal(SIGKILL)
            throw error
        }
        startTime = EventLoop.now() &- begin
        // What it logs from now on nobody reads; it is a few lines.
        keptOutput = reading.release()
    }

    private let keptOutput: CInt

    private static func await(_ words: String, from raw: CInt, of process: ChildProcess) throws {
        let end = EventLoop.now() &+ 120_000_000_000
        var said = ""
        var chunk = [UInt8](repeating: 0, count: 4096)
        while !said.contains(words) {
            var wait = [pollfd(fd: raw, events: Int16(POLLIN), revents: 0), pollfd(fd: process.exitDescriptor, events: Int16(POLLIN), revents: 0)]
            guard poll(&wait, 2, 1000) >= 0, EventLoop.now() < end else { throw BenchError("a coordinator did not say that its guest runs; it said: \(said)") }
            if wait[0].revents & Int16(POLLIN) != 0 {
                let length = read(raw, &chunk, chunk.count)
                if length > 0 { said += String(decoding: chunk.prefix(length), as: UTF8.self) }
            } else if process.poll() != nil {
                throw BenchError("a coordinator ended at its start; it said: \(said)")
            }
        }
    }

    func end() {
        process.signal(SIGTERM)
        if process.wait(limit: .seconds(20)) == nil { process.signal(SIGKILL) }
        close(keptOutput)
    }
}
