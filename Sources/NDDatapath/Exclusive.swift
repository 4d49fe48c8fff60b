import Glibc
import NDCore

extension Datapath {
    /// Runs while no other process commits a policy: generations, numbers of programs and pins are counted on from
    /// what is there.
    public func exclusively<Result>(_ body: () throws -> Result) throws -> Result {
        try locked("commit.lock", body)
    }

    /// flock(2) on a file of the instance, which goes with it. Held by an open file: threads exclude each other too.
    func locked<Result>(_ name: String, _ body: () throws -> Result) throws -> Result {
        mkdir("/run/ndbpf", 0o755)
        mkdir(instance.runDirectory, 0o700)
        let path = "\(instance.runDirectory)/\(name)"
        let fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard fd >= 0 else {
            throw NDError(
                "instance.lock", "can't open \(path): \(String(cString: strerror(errno)))",
                hint: errno == EACCES ? "run as root" : nil)
        }
        defer { close(fd) }
        while flock(fd, LOCK_EX) != 0 {
            guard errno == EINTR else {
                throw NDError("instance.lock", "can't lock \(path): \(String(cString: strerror(errno)))")
            }
        }
        return try body()
    }
}
