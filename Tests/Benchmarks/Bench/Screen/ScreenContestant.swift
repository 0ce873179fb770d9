import Platform

/// A VNC server in a process of its own, and something that draws on its screen.
protocol ScreenContestant: AnyObject {
    var name: String { get }
    /// Where viewers come in: a UNIX socket.
    var path: String { get }
    /// What the server has used; the drawing is not in it where it can be told apart.
    var usage: Usage { get }
    /// What is drawn from now on.
    func paint(_ painting: Painting) throws
    func end()
}
