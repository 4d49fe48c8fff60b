import Glibc
import NDCore

extension Datapath {
    /// Runs while no other process commits a policy: generations, numbers of programs and of machines, and pins are
    /// counted on from what is there.
    public func exclusively<Result>(_ body: () throws -> Result) throws -> Result {
        try locked("commit.lock", body)
    }

    /// The lock is held by an open file: threads exclude each other too.
    func locked<Result>(_ name: String, _ body: () throws -> Result) throws -> Result {
        let fd = try instance.openLock(name)
        defer { close(fd) }
        while flock(fd, LOCK_EX) != 0 {
            guard errno == EINTR else {
                throw NDError("instance.lock", "can't lock \(name): \(String(cString: strerror(errno)))")
            }
        }
        return try body()
    }
}
