import CLibbpf
import CNDSystem
import Glibc
import NDCore

extension Instance {
    /// A pinned map, of the size that its type has here: the kernel reads and writes by its own.
    func openMap<Key, Value>(_ name: String) throws(NDError) -> BPFMap<Key, Value> {
        let fd = try openPin(name)
        guard let info = bpf_map_info(of: fd), Int(info.key_size) == MemoryLayout<Key>.stride,
            Int(info.value_size) == MemoryLayout<Value>.stride
        else {
            close(fd)
            throw NDError(
                "instance.abi", "map \(name) of instance '\(self.name)' was made by another version",
                hint: "`ndbpf load`, or `ndbpf run`, takes over what that one knows (docs/upgrade.md); nothing was changed")
        }
        return BPFMap(descriptor: fd, name: name)
    }
}

extension bpf_map_info {
    /// nil with errno set.
    init?(of descriptor: Int32) {
        self.init()
        var size = UInt32(MemoryLayout<Self>.size)
        guard bpf_obj_get_info_by_fd(descriptor, &self, &size) == 0 else { return nil }
    }
}

/// A typed view of one BPF map. Key and Value are C structs of nd.h without padding holes.
public struct BPFMap<Key, Value>: Sendable {
    public let descriptor: Int32
    public let name: String

    public init(descriptor: Int32, name: String) {
        self.descriptor = descriptor
        self.name = name
    }

    public func lookup(_ key: Key) -> Value? {
        withUnsafeTemporaryAllocation(of: Value.self, capacity: 1) { value in
            guard let base = value.baseAddress else { return nil }
            let found = withUnsafePointer(to: key) { bpf_map_lookup_elem(descriptor, $0, base) }
            return found == 0 ? base.pointee : nil
        }
    }

    /// `onlyNew` is BPF_NOEXIST. Returns false when the entry is there already (or, for
    /// `onlyExisting`, when it isn't); anything else that fails throws.
    @discardableResult
    public func update(_ key: Key, _ value: Value, onlyNew: Bool = false, onlyExisting: Bool = false) throws
        -> Bool
    {
        let flags: UInt64 = onlyNew ? 1 : onlyExisting ? 2 : 0
        let result = withUnsafePointer(to: key) { key in
            withUnsafePointer(to: value) { bpf_map_update_elem(descriptor, key, $0, flags) }
        }
        if result == 0 { return true }
        let error = errno
        if (onlyNew && error == EEXIST) || (onlyExisting && error == ENOENT) { return false }
        throw NDError(
            "map.update", "can't write map \(name): \(String(cString: strerror(error)))",
            hint: error == E2BIG ? "the map is full: `ndbpf maps` shows its fill; load with a larger size" : nil)
    }

    /// Whether the kernel refuses another entry for want of room, by its own count.
    var isFull: Bool {
        guard let info = bpf_map_info(of: descriptor) else { return false }
        return entries().count >= Int(info.max_entries)
    }

    /// False when there was no such entry.
    @discardableResult
    public func delete(_ key: Key) -> Bool {
        withUnsafePointer(to: key) { bpf_map_delete_elem(descriptor, $0) } == 0
    }

    /// Walks the map; entries that come or go meanwhile may be seen or not. Stops after `most`.
    public func entries(most: Int = 1 << 20) -> [(key: Key, value: Value)] {
        var all: [(key: Key, value: Value)] = []
        var previous: Key?
        withUnsafeTemporaryAllocation(of: Key.self, capacity: 1) { next in
            guard let next = next.baseAddress else { return }
            // A key deleted under the walk starts it over; the bound ends that.
            for _ in 0..<(2 * most) {
                let more =
                    previous.map { key in
                        withUnsafePointer(to: key) { bpf_map_get_next_key(descriptor, $0, next) }
                    } ?? bpf_map_get_next_key(descriptor, nil, next)
                guard more == 0, all.count < most else { return }
                let key = next.pointee
                if let value = lookup(key) { all.append((key, value)) }
                previous = key
            }
        }
        return all
    }
}

/// What `ndbpf maps` says of a map, from the kernel's own description.
public struct MapDescription: Sendable {
    public var name: String
    public var type: String
    public var keyBytes: Int
    public var valueBytes: Int
    public var capacity: Int
    public var entries: Int?
}
