@main struct VNC { static func main() {} }
