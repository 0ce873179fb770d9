/// What a viewer's pointer does to the guest's.
public enum PointerStroke: Equatable, Sendable {
    /// 0…32767 from edge to edge.
    case absolute(x: UInt16, y: UInt16)
    case relative(x: Int16, y: Int16)
    /// A bit of the viewer's mask: left, middle, right, wheel up, down, left, right, side.
    case button(Int, down: Bool)
}

/// One viewer's pointer. No viewer can lock another's out.
public struct Pointer: Sendable {
    private var buttons: UInt8 = 0
    private var place: (x: UInt16, y: UInt16)?

    public init() {}

    /// A viewer's pointer event on a screen of that many pixels.
    /// - Parameters:
    ///   - absolute: what the guest takes.
    ///   - sendsSteps: whether this viewer, told so, sends movements as distances from 0x7fff.
    public mutating func event(buttons: UInt8, x: UInt16, y: UInt16, width: Int, height: Int, absolute: Bool, sendsSteps: Bool) -> [PointerStroke] {
        var strokes: [PointerStroke] = []
        if absolute {
            if place.map({ $0.x != x || $0.y != y }) ?? true {
                strokes.append(.absolute(x: Self.scale(x, width), y: Self.scale(y, height)))
            }
            place = (x, y)
        } else if sendsSteps {
            let step = (x: Int(x) - 0x7fff, y: Int(y) - 0x7fff)
            if step != (0, 0) { strokes.append(.relative(x: Int16(clamping: step.x), y: Int16(clamping: step.y))) }
            place = nil
        } else {
            if let place, place.x != x || place.y != y {
                strokes.append(.relative(x: Int16(clamping: Int(x) - Int(place.x)), y: Int16(clamping: Int(y) - Int(place.y))))
            }
            place = (x, y)
        }
        for bit in 0..<8 where (self.buttons ^ buttons) >> UInt8(bit) & 1 != 0 {
            strokes.append(.button(bit, down: buttons >> UInt8(bit) & 1 != 0))
        }
        self.buttons = buttons
        return strokes
    }

    /// The viewer is gone: its buttons come up.
    public mutating func leave() -> [PointerStroke] {
        defer { buttons = 0 }
        return (0..<8).filter { buttons >> UInt8($0) & 1 != 0 }.map { .button($0, down: false) }
    }

    private static func scale(_ place: UInt16, _ length: Int) -> UInt16 {
        guard length > 1 else { return 0 }
        return UInt16(min(Int(place), length - 1) * 32_767 / (length - 1))
    }
}
