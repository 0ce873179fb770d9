import EmulatorProtocol
import Platform

/// Wishes for another size of the screen, on their way to the display: the newest counts, four times a second at most.
final class ModeHints {
    static let pace = Duration.milliseconds(250)

    private let loop: EventLoop
    private var waiting: SurfaceSize?
    private var isPausing = false

    init(_ loop: EventLoop) { self.loop = loop }

    /// - Parameter deliver: called at once, or with the newest wish when the pause after the last one is over.
    func take(_ size: SurfaceSize, _ deliver: @escaping (SurfaceSize) -> Void) {
        guard !isPausing else { return waiting = size }
        deliver(size)
        isPausing = true
        loop.after(Self.pace) { [weak self] in
            guard let self else { return }
            self.isPausing = false
            guard let next = self.waiting else { return }
            self.waiting = nil
            self.take(next, deliver)
        }
    }
}
