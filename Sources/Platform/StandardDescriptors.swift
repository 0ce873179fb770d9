import CLinux
import Glibc

/// The descriptors 0, 1 and 2 of a program, which may be started without them.
public enum StandardDescriptors {
    /// Opens those of the three that are missing, so that no file, socket or memory gets one of their numbers and is
    /// then written to, or handed to a
    /// child, as the standard output. Each is opened the wrong way round: reading or writing it fails, as of a closed
    /// one.
    ///
    /// The first thing that a program does, before it opens anything and before it has a second thread.
    public static func fill() {
        for number in CInt(0)...2 where demux_descriptor_flags(number) < 0 {
            // The lowest number that is free is this one.
            if open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0 { _ = open("/", O_RDONLY | O_DIRECTORY) }
        }
    }
}
