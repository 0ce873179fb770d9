import ControlProtocol
import Glibc
import Picture
import Platform
import Surface
import Synchronization

/// A guest's picture for the page, or why there is none.
enum Thumbnail: Equatable, Sendable {
    /// A PNG file, and a text that is another one when the picture is.
    case picture([UInt8], tag: String)
    /// There is no such guest, or it has no display.
    case none(String)
    /// Perhaps later.
    case notYet(String)
}

/// Thumbnails of all guests: one thread that is a reader of each guest for which a browser asks, and of no other.
final class Gallery: Sendable {
    /// A reader that nobody asked for this long goes away.
    static let patience = Duration.seconds(5)
    /// How long a request waits for the first picture.
    static let firstPicture = Duration.seconds(3)
    static let box = (width: 400, height: 300)
    /// Updates a second that a thumbnail needs.
    static let rate: UInt32 = 2
    /// Requests that may wait for one guest.
    static let mostWaiting = 64

    private struct Job: Sendable {
        let domain: UInt16
        let answer: @Sendable (Thumbnail) -> Void
    }

    private let jobs = Mutex<[Job]>([])
    private let bell: EventFD

    /// Starts the thread, which lasts as long as the process.
    /// - Throws: SystemError when the kernel gives no descriptors.
    init(base: String) throws(SystemError) {
        bell = try EventFD()
        let loop = try EventLoop()
        let work = GalleryThread(base: base, loop: loop)
        try loop.watch(bell.descriptor.raw, for: .readable) { [unowned self] _ in
            self.bell.clear()
            let jobs = self.jobs.withLock { jobs in
                defer { jobs = [] }
                return jobs
            }
            for job in jobs { work.serve(job.domain, job.answer) }
        }
        var thread = pthread_t()
        // Kept by the thread, with everything it uses.
        let context = Unmanaged.passRetained(Context(self, loop, work))
        pthread_create(
            &thread, nil,
            { argument in
                if let argument { Unmanaged<Context>.fromOpaque(argument).takeRetainedValue().run() }
                return nil
            }, context.toOpaque())
        pthread_detach(thread)
    }

    private final class Context {
        let gallery: Gallery
        let loop: EventLoop
        let work: GalleryThread
        init(_ gallery: Gallery, _ loop: EventLoop, _ work: GalleryThread) {
            self.gallery = gallery
            self.loop = loop
            self.work = work
        }
        func run() {
            do {
                try loop.run()
            } catch {
                StandardError.line("demux-web: no more thumbnails: \(error)")
            }
        }
    }

    /// The present picture of a guest, waited for when it is the first one.
    func thumbnail(of domain: UInt16) async -> Thumbnail {
        await withCheckedContinuation { continuation in
            jobs.withLock { $0.append(Job(domain: domain) { continuation.resume(returning: $0) }) }
            bell.ring()
        }
    }
}

/// The thread's own side of the gallery.
private final class GalleryThread {
    private let base: String
    private let loop: EventLoop
    private var screens: [UInt16: Screen] = [:]

    init(base: String, loop: EventLoop) {
        self.base = base
        self.loop = loop
    }

    func serve(_ domain: UInt16, _ answer: @escaping (Thumbnail) -> Void) {
        if let screen = screens[domain] { return screen.ask(answer) }
        do {
            let socket = try ControlSocket.connect(domain: domain, base: base, limit: nil)
            try ControlSocket.send(.surface, on: socket)
            let screen = try Screen(socket, domain: domain, base: base, loop: loop) { [weak self] in self?.screens[domain] = nil }
            screens[domain] = screen
            screen.ask(answer)
        } catch let error as Unreachable {
            answer(.none(error.message(domain: domain, base: base)))
        } catch {
            answer(.none("\(error)"))
        }
    }
}

/// One guest that is being looked at.
private final class Screen {
    private typealias Answer = (Thumbnail) -> Void

    private let domain: UInt16
    private let base: String
    private let loop: EventLoop
    private let ended: () -> Void
    /// Until the coordinator has answered.
    private var socket: MessageSocket?
    private let socketNumber: CInt
    private var subscription: SurfaceSubscription?
    private var waiting: [Answer] = []
    /// When `waiting` is answered whatever there is.
    private var deadline: EventLoop.Timer?
    private var lastAsked = EventLoop.now()
    /// The update that was there at the beginning, which may be old.
    private var firstFrame: UInt64 = 0
    private var drawnAnew = false
    private var surfaces = 0
    private var cached: (tag: String, bytes: [UInt8])?

    init(_ socket: consuming MessageSocket, domain: UInt16, base: String, loop: EventLoop, ended: @escaping () -> Void) throws(SystemError) {
        self.domain = domain
        self.base = base
        socketNumber = socket.descriptor.raw
        self.socket = consume socket
        self.loop = loop
        self.ended = ended
        try loop.watch(socketNumber, for: .readable) { [unowned self] _ in self.hear() }
        watchPatience(Gallery.patience)
    }

    func ask(_ answer: @escaping (Thumbnail) -> Void) {
        lastAsked = EventLoop.now()
        guard waiting.count < Gallery.mostWaiting else { return answer(.notYet("too many requests for this guest")) }
        waiting.append(answer)
        settle()
        guard !waiting.isEmpty, deadline == nil else { return }
        deadline = loop.after(Gallery.firstPicture) { [unowned self] in
            self.deadline = nil
            self.drawnAnew = true
            self.settle()
            self.reply(.notYet("the guest has shown nothing yet"))
        }
    }

    /// Answers those that wait, once there is something to be seen.
    private func settle() {
        guard !waiting.isEmpty, let subscription, let frame = subscription.withReader({ $0.frame }) else { return }
        if frame != firstFrame { drawnAnew = true }
        guard frame > 0, drawnAnew else { return }
        let tag = "\(surfaces)-\(frame)"
        if cached?.tag != tag {
            guard let picture = subscription.withReader({ Picture(of: $0) }) else { return }
            do {
                cached = (tag, try picture.scaled(within: Gallery.box).png())
                subscription.page.saw(frame)
            } catch {
                return reply(.none("\(error)"))
            }
        }
        if let cached { reply(.picture(cached.bytes, tag: cached.tag)) }
    }

    private func reply(_ thumbnail: Thumbnail) {
        if let deadline { loop.cancel(deadline) }
        deadline = nil
        let answers = waiting
        waiting = []
        for answer in answers { answer(thumbnail) }
    }

    /// The control socket: the answer to our request, later other surfaces, or the end.
    private func hear() {
        do {
            if let socket = socket.take() {
                let subscription = try SurfaceSubscription(socket, limit: .zero)
                self.subscription = subscription
                firstFrame = subscription.withReader { $0.frame } ?? 0
                subscription.page.set(viewers: 1, maxRate: Gallery.rate)
                try loop.watch(subscription.page.frameDescriptor, for: .readable) { [unowned self] _ in self.rung() }
            } else {
                try subscription?.update()
                surfaces += 1
                firstFrame = 0
            }
            settle()
        } catch let error as Unreachable {
            end(.none(error.message(domain: domain, base: base)))
        } catch {
            end(.none("\(error)"))
        }
    }

    /// The display has drawn.
    private func rung() {
        guard let subscription else { return }
        if !subscription.page.clear() { loop.forget(subscription.page.frameDescriptor) }
        settle()
    }

    private func watchPatience(_ delay: Duration) {
        loop.after(delay) { [weak self] in
            guard let self else { return }
            let rest = Gallery.patience.clampedNanoseconds &- min(EventLoop.now() &- self.lastAsked, Gallery.patience.clampedNanoseconds)
            if rest > 0 || !self.waiting.isEmpty {
                self.watchPatience(max(.nanoseconds(Int64(clamping: rest)), .milliseconds(100)))
            } else {
                self.end(.notYet("nobody asked"))
            }
        }
    }

    /// Takes the reader away; nothing runs for this guest afterwards.
    private func end(_ thumbnail: Thumbnail) {
        // What is watched is forgotten before it is closed.
        loop.forget(socketNumber)
        if let subscription { loop.forget(subscription.page.frameDescriptor) }
        subscription = nil
        socket = nil
        reply(thumbnail)
        ended()
    }
}
