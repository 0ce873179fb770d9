@main struct Display { static func main() {} }
