import Keeping
import Platform

/// The descriptors that are held, by their names.
struct Holdings {
    private var held: [String: DescriptorBag] = [:]

    mutating func keep(_ bag: DescriptorBag, as name: String) { held[name] = bag }

    /// A name that ends in "/" stands for everything below.
    mutating func drop(_ name: String) {
        guard name.hasSuffix("/") else {
            held[name] = nil
            return
        }
        for key in held.keys where key.hasPrefix(name) { held[key] = nil }
    }

    subscript(name: String) -> Int32? { held[name]?.raw.first }

    /// The pipes that somebody writes lines to.
    var outputs: [CInt] { held.filter { $0.key.hasSuffix("/" + KeeperNames.outputPart) }.flatMap(\.value.raw) }

    /// Tells a coordinator of all of them.
    func tell(_ socket: borrowing MessageSocket) throws(SystemError) {
        for (name, bag) in held { try socket.send(KeeperMessage.held(name).bytes, descriptors: bag.raw) }
    }
}
