@main struct Web { static func main() {} }
