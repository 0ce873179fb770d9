import Glibc

/// Whether the counts that are too large for every day are asked for.
enum Full {
    static let isWanted = getenv("DEMUX_TEST_FULL") != nil
}
