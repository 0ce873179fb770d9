import ControlProtocol
import EmulatorProtocol
import Glibc
import Platform
import Surface

/// What a reader of the scan-out is told.
enum SurfaceNews {
    /// Once, at the beginning. Beside it: its page (read and write), the doorbell to hear and the one to ring.
    case added(reader: Int)
    /// The scan-out from now on. Beside it: its memory, read-only.
    case surface(SurfaceSize)
}

/// The guest's scan-out: its memory, the display that writes it and everybody who reads it.
///
/// The display may die and come back: readers keep the last scan-out until it makes another. A reader may die at any time:
/// what it wanted is forgotten and the display told. Used on the loop's thread only.
final class SurfaceBoard {
    /// Readers at a time.
    static let mostReaders = 16
    /// A reader is told of a new scan-out at most this often: a guest that switches modes without pause must not fill its socket.
    static let pace = Duration.milliseconds(20)

    private final class Scanout {
        let memory: SharedMemory
        let size: SurfaceSize
        init(adopting memory: consuming SharedMemory, _ size: SurfaceSize) {
            self.memory = memory
            self.size = size
        }
        init(_ size: SurfaceSize) throws(SystemError) {
            memory = try SurfaceMemory.create(width: size.width, height: size.height)
            self.size = size
        }
    }

    private final class Reader {
        let number: Int
        let name: String
        let page: SharedMemory
        /// Rung by the display.
        let frame: SurfaceDoorbell
        /// Rung by the reader.
        let want: SurfaceDoorbell
        let tell: (SurfaceNews, DescriptorBag) -> Void
        var told: UInt64?
        var isWaiting = false
        /// Whether it outlives this coordinator: an exporter does, who came over the control socket does not.
        let isKept: Bool

        init(adopting number: Int, name: String, _ recorder: Recorder, tell: @escaping (SurfaceNews, DescriptorBag) -> Void) throws(SystemError) {
            let prefix = KeptName.reader(number)
            self.number = number
            self.name = name
            self.tell = tell
            isKept = true
            page = try SurfaceMemory.adoptReaderPage(try recorder.take(prefix + "page"))
            frame = SurfaceDoorbell(
                adoptingRinging: try recorder.take(prefix + "frame.ringing"), hearing: try recorder.take(prefix + "frame.hearing"))
            want = SurfaceDoorbell(adoptingRinging: try recorder.take(prefix + "want.ringing"), hearing: try recorder.take(prefix + "want.hearing"))
        }

        func keep(_ recorder: Recorder) {
            let prefix = KeptName.reader(number)
            recorder.keep(page.descriptor.raw, as: prefix + "page")
            recorder.keep(frame.ringing.raw, as: prefix + "frame.ringing")
            recorder.keep(frame.hearing.raw, as: prefix + "frame.hearing")
            recorder.keep(want.ringing.raw, as: prefix + "want.ringing")
            recorder.keep(want.hearing.raw, as: prefix + "want.hearing")
        }

        init(_ number: Int, name: String, isKept: Bool, tell: @escaping (SurfaceNews, DescriptorBag) -> Void) throws(SystemError) {
            self.number = number
            self.name = name
            self.tell = tell
            self.isKept = isKept
            page = try SurfaceMemory.createReaderPage()
            frame = try SurfaceDoorbell()
            want = try SurfaceDoorbell()
        }
    }

    private let loop: EventLoop
    private let logBook: LogBook
    private var scanout: Scanout?
    private var readers: [Int: Reader] = [:]
    private var nextReader = 1
    /// The emulator that is the display, by its name: its process may be another one tomorrow.
    private(set) var displayName: String? { didSet { recorder?.changed() } }
    weak var recorder: Recorder?
    private weak var display: EmulatorSession?

    private let hints: ModeHints

    init(loop: EventLoop, logBook: LogBook) {
        self.loop = loop
        hints = ModeHints(loop)
        self.logBook = logBook
    }

    // MARK: the display

    /// Takes an emulator as the guest's display.
    /// - Throws: Refusal when there is another.
    func claim(_ session: EmulatorSession) throws(Refusal) {
        if let displayName, displayName != session.name {
            throw Refusal(
                .clash, asked: "capability 'surface'", message: "emulator '\(displayName)' is the guest's display; a guest has one",
                clash: Refusal.Clash(owner: "emulator '\(displayName)'", range: "the display"))
        }
        displayName = session.name
    }

    /// The display serves: it is told of every reader there is.
    func displayServes(_ session: EmulatorSession) {
        guard session.name == displayName else { return }
        display = session
        for reader in readers.values.sorted(by: { $0.number < $1.number }) { introduce(reader, to: session) }
    }

    /// Its process has ended; another may follow. Readers keep what they have.
    func displayEnded(_ session: EmulatorSession) { if display === session { display = nil } }

    /// It was taken out of the guest: another emulator may become the display.
    func displayRemoved(_ name: String) { if displayName == name { displayName = nil } }

    /// Makes the memory of a new scan-out, and hands it to every reader.
    /// - Returns: the descriptor for the display, which can write through it.
    func make(_ size: SurfaceSize, for session: EmulatorSession) throws(Refusal) -> DescriptorBag {
        let asked = "a surface of \(size.width)×\(size.height)"
        guard session.name == displayName else {
            throw Refusal(.order, asked: asked, message: "only an emulator that said the capability 'surface' in hello is a display")
        }
        do {
            let made = try Scanout(size)
            let bag = DescriptorBag()
            bag.add(try made.memory.descriptor.duplicate())
            scanout = made
            recorder?.keep(made.memory.descriptor.raw, as: KeptName.scanout)
            recorder?.changed()
            for reader in readers.values { hand(made, to: reader) }
            return bag
        } catch {
            throw Refusal(.invalid, asked: asked, message: "\(error)")
        }
    }

    /// Hands a wish for a size on to the display; one that cannot be handed on now is dropped.
    /// - Throws: Refusal for a size that no scan-out has.
    func hint(_ size: SurfaceSize) throws(Refusal) {
        let asked = "the mode \(size.width)×\(size.height)"
        guard SurfaceLayout.length(width: size.width, height: size.height) != nil else {
            throw Refusal(.invalid, asked: asked, message: "a side has 1 to \(SurfaceLayout.largestSide) pixels, all of it at most \(SurfaceLayout.largestLength >> 20) MiB")
        }
        guard display != nil else { throw Refusal(.order, asked: asked, message: "this guest has no display that serves") }
        hints.take(size) { [weak self] in _ = self?.display?.offer(.modeHint($0)) }
    }

    // MARK: readers

    /// Adds a reader: it is told its number and the present scan-out, and the display of it.
    /// - Parameter name: for people.
    /// - Parameter isKept: whether it outlives this coordinator.
    /// - Returns: its number, which is not used again.
    func add(name: String, isKept: Bool = false, tell: @escaping (SurfaceNews, DescriptorBag) -> Void) throws(Refusal) -> Int {
        guard readers.count < Self.mostReaders else {
            throw Refusal(.exhausted, asked: "to read the surface", message: "\(Self.mostReaders) read it already; end one of them first")
        }
        do {
            let reader = try Reader(nextReader, name: name, isKept: isKept, tell: tell)
            let bag = DescriptorBag()
            bag.add(try reader.page.descriptor.duplicate())
            bag.add(try reader.frame.hearing.duplicate())
            bag.add(try reader.want.ringing.duplicate())
            nextReader &+= 1
            readers[reader.number] = reader
            if isKept, let recorder { reader.keep(recorder) }
            recorder?.changed()
            tell(.added(reader: reader.number), bag)
            if let scanout { hand(scanout, to: reader) }
            if let display { introduce(reader, to: display) }
            return reader.number
        } catch {
            throw Refusal(.exhausted, asked: "to read the surface", message: "\(error)")
        }
    }

    /// A reader is gone: it wants nothing any more, and the display hears so.
    func remove(_ number: Int) {
        guard let reader = readers.removeValue(forKey: number) else { return }
        recorder?.drop(KeptName.reader(number))
        recorder?.changed()
        try? SurfaceMemory.resetReaderPage(reader.page)
        SurfaceDoorbell.ring(reader.want.ringing.raw)
        display?.request(.surfaceReader(SurfaceReaderChange(reader: number, change: .gone))) { _ in }
    }

    private func introduce(_ reader: Reader, to display: EmulatorSession) {
        let bag = DescriptorBag()
        do {
            // The page is the reader's: the display only looks.
            bag.add(try reader.page.readOnly())
            bag.add(try reader.frame.ringing.duplicate())
            bag.add(try reader.want.hearing.duplicate())
        } catch {
            return logBook.note(.warning, "the display is not told of reader \(reader.number): \(error)")
        }
        display.request(.surfaceReader(SurfaceReaderChange(reader: reader.number, change: .added)), descriptors: bag) { [logBook, name = display.name] refusal in
            if let refusal { logBook.note(.warning, "the display does not take reader \(reader.number): \(refusal)", becauseOf: name) }
        }
    }

    private func hand(_ scanout: Scanout, to reader: Reader) {
        guard !reader.isWaiting else { return }
        let now = EventLoop.now()
        let pace = Self.pace.clampedNanoseconds
        if let told = reader.told, now &- told < pace {
            // Later, and then the newest.
            reader.isWaiting = true
            loop.after(.nanoseconds(Int64(clamping: pace &- (now &- told)))) { [weak self, weak reader] in
                guard let self, let reader, self.readers[reader.number] === reader, let scanout = self.scanout else { return }
                reader.isWaiting = false
                self.hand(scanout, to: reader)
            }
            return
        }
        let bag = DescriptorBag()
        do {
            bag.add(try scanout.memory.readOnly())
        } catch {
            return logBook.note(.warning, "reader \(reader.number) (\(reader.name)) is not given the surface: \(error)")
        }
        reader.told = now
        reader.tell(.surface(scanout.size), bag)
    }

    // MARK: another coordinator

    /// What a successor has to know. Of the readers those are in `readers` that live on with it; `gone` names the others.
    var kept: KeptSurface {
        KeptSurface(
            display: displayName, width: scanout?.size.width, height: scanout?.size.height, nextReader: nextReader,
            readers: readers.values.filter(\.isKept).map(\.number).sorted(), gone: readers.values.filter { !$0.isKept }.map(\.number).sorted())
    }

    /// Takes over a predecessor's scan-out.
    func adopt(_ kept: KeptSurface, _ recorder: Recorder) throws(SystemError) {
        displayName = kept.display
        nextReader = max(kept.nextReader, 1)
        guard let width = kept.width, let height = kept.height else { return }
        let size = SurfaceSize(width: width, height: height)
        scanout = Scanout(adopting: try SurfaceMemory.adopt(try recorder.take(KeptName.scanout), width: width, height: height), size)
    }

    /// The display serves on: it knows every reader. Those that were connected to the predecessor are gone.
    func displayGoesOn(_ session: EmulatorSession, gone: [Int]) {
        guard session.name == displayName else { return }
        display = session
        for number in gone { session.request(.surfaceReader(SurfaceReaderChange(reader: number, change: .gone))) { _ in } }
    }

    /// A reader lives on.
    func adoptReader(_ number: Int, name: String, _ recorder: Recorder, tell: @escaping (SurfaceNews, DescriptorBag) -> Void) throws(SystemError) {
        readers[number] = try Reader(adopting: number, name: name, recorder, tell: tell)
        nextReader = max(nextReader, number &+ 1)
        // Its predecessor may not have lived to hand out the newest.
        if let scanout, let reader = readers[number] { hand(scanout, to: reader) }
    }

    // MARK: for people

    /// nil when there neither is nor was a display.
    var status: DisplayStatus? {
        guard displayName != nil || scanout != nil else { return nil }
        var status = DisplayStatus(emulator: displayName, width: scanout?.size.width, height: scanout?.size.height)
        if let scanout, let look = try? SurfaceReader(scanout.memory.readOnly(), width: scanout.size.width, height: scanout.size.height) {
            status.frames = look.frame
            status.isBlank = look.isBlank
        }
        status.readers = readers.values.sorted { $0.number < $1.number }.map { reader in
            var entry = DisplayStatus.Reader(number: reader.number, name: reader.name)
            if let watch = try? SurfaceReaderWatch(
                reader.page.readOnly(), frame: reader.frame.ringing.duplicate(), want: reader.want.hearing.duplicate())
            {
                entry.viewers = watch.viewers
                entry.maxRate = watch.maxRate
            }
            return entry
        }
        return status
    }
}
