import CLibbpf
import Glibc
import NDCore

extension BPFMap {
    /// Entries of one read. The kernel takes whole buckets, so a bucket must fit.
    private static var batch: Int { 4096 }

    /// Every entry of a hash, some thousands a system call: a table of a million is walked in a fraction of a second.
    /// Entries that come or go meanwhile may be seen or not.
    public func walk(_ body: (Key, Value) throws -> Void) throws {
        let keys = UnsafeMutablePointer<Key>.allocate(capacity: Self.batch)
        let values = UnsafeMutablePointer<Value>.allocate(capacity: Self.batch)
        defer {
            keys.deallocate()
            values.deallocate()
        }
        // Where the next read begins: a bucket's number, for hashes.
        var place: UInt32 = 0
        var isFirst = true
        var options = bpf_map_batch_opts()
        options.sz = MemoryLayout<bpf_map_batch_opts>.size
        while true {
            var count = UInt32(Self.batch)
            var next: UInt32 = 0
            let result = withUnsafeMutablePointer(to: &place) { from in
                bpf_map_lookup_batch(descriptor, isFirst ? nil : from, &next, keys, values, &count, &options)
            }
            let error = result == 0 ? 0 : errno
            guard error == 0 || error == ENOENT, Int(count) <= Self.batch else {
                throw NDError("map.read", "can't read map \(name): \(String(cString: strerror(error)))")
            }
            for index in 0..<Int(count) { try body(keys[index], values[index]) }
            if error == ENOENT { return }
            place = next
            isFirst = false
        }
    }

    public func count() throws -> Int {
        var count = 0
        try walk { _, _ in count += 1 }
        return count
    }

    /// Entries that the kernel has room for; nil with errno set.
    public var capacity: Int? { bpf_map_info(of: descriptor).map { Int($0.max_entries) } }
}
