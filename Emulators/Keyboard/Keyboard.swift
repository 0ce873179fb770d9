@main struct Keyboard { static func main() {} }
