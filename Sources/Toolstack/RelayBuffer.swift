import CLinux
import Glibc
import Platform

/// Bytes on their way to one side of a relay, with the descriptors that travel beside them.
struct RelayBuffer {
    private struct Segment {
        var bytes: [UInt8]
        var sent = 0
        /// They go with the segment's first byte.
        var descriptors: DescriptorBag?
    }

    enum Outcome { case drained, blocked, broken }

    private var segments: [Segment] = []
    /// How many bytes wait.
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }

    mutating func append(_ bytes: ArraySlice<UInt8>, descriptors: DescriptorBag? = nil) {
        let bag = descriptors.flatMap { $0.count > 0 ? $0 : nil }
        guard !bytes.isEmpty else { return }
        count += bytes.count
        if bag == nil, !segments.isEmpty {
            // What has gone out already is cut off first, so that a stream that never drains does not grow.
            let last = segments.count - 1
            if segments[last].sent > 0 {
                segments[last].bytes.removeFirst(segments[last].sent)
                segments[last].sent = 0
            }
            segments[last].bytes.append(contentsOf: bytes)
        } else {
            segments.append(Segment(bytes: Array(bytes), descriptors: bag))
        }
    }

    mutating func removeAll() {
        segments = []
        count = 0
    }

    /// The numbers of the descriptors that wait; they stay owned by the buffer.
    var descriptors: [CInt] { segments.flatMap { $0.descriptors?.raw ?? [] } }

    /// Takes out the descriptors that wait, in their order.
    mutating func takeDescriptors() -> DescriptorBag {
        let all = DescriptorBag()
        for index in segments.indices {
            while let one = segments[index].descriptors?.take() { all.add(one) }
            segments[index].descriptors = nil
        }
        return all
    }

    /// Moves everything to the end of another one.
    mutating func move(to other: inout RelayBuffer) {
        for segment in segments { other.append(segment.bytes[segment.sent...], descriptors: segment.descriptors) }
        removeAll()
    }

    /// Sends as much as the socket takes.
    mutating func send(to raw: CInt) -> Outcome {
        var finished = 0
        defer { segments.removeFirst(finished) }
        for index in segments.indices {
            while segments[index].sent < segments[index].bytes.count {
                let numbers = segments[index].descriptors?.raw ?? []
                let offset = segments[index].sent
                let sent = segments[index].bytes.withUnsafeBytes { bytes in
                    // Sound: `offset` is less than the count, so that there is a base address and the rest lies within.
                    demux_send(raw, bytes.baseAddress?.advanced(by: offset), bytes.count - offset, numbers, CInt(numbers.count), CInt(MSG_DONTWAIT))
                }
                if sent < 0 {
                    return errno == EAGAIN || errno == EWOULDBLOCK ? .blocked : .broken
                }
                // They have been handed over with the first byte; ours are closed.
                if sent > 0 { segments[index].descriptors = nil }
                segments[index].sent += sent
                count -= sent
            }
            finished += 1
        }
        return .drained
    }
}
