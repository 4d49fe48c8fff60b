import CLibbpf
import Glibc
import NDCore

extension BPFMap {
    /// All entries, or an error: bucket by bucket, so that entries which come and go meanwhile hide no other one, as
    /// they may in a walk by keys.
    func snapshot() throws(NDError) -> [(key: Key, value: Value)] {
        var all: [(key: Key, value: Value)] = []
        var position: UInt32 = 0
        var isFirst = true
        var room = 4096
        while true {
            let keys = UnsafeMutablePointer<Key>.allocate(capacity: room)
            let values = UnsafeMutablePointer<Value>.allocate(capacity: room)
            defer {
                keys.deallocate()
                values.deallocate()
            }
            var count = UInt32(clamping: room)
            var next = position
            let result = withUnsafeMutablePointer(to: &position) {
                bpf_map_lookup_batch(descriptor, isFirst ? nil : UnsafeMutableRawPointer($0), &next, keys, values, &count, nil)
            }
            let error = result == 0 ? 0 : errno
            switch error {
            case 0, ENOENT:
                for i in 0..<min(Int(count), room) { all.append((keys[i], values[i])) }
                if error == ENOENT { return all }
                position = next
                isFirst = false
            // One bucket alone has more.
            case ENOSPC where room < 1 << 22: room *= 4
            default:
                throw NDError("map.read", "can't read map \(name): \(String(cString: strerror(error)))")
            }
        }
    }
}
