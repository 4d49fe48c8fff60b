import Foundation
import NDCore

/// How full a table is that grows with connections.
public struct TableFill: Hashable, Sendable, Codable {
    /// "flows", "secured", "peers"
    public var name: String
    public var entries: Int
    public var size: Int

    public init(name: String, entries: Int, size: Int) {
        self.name = name
        self.entries = entries
        self.size = size
    }

    public var share: Double { size > 0 ? Double(entries) / Double(size) : 0 }
    public var isHigh: Bool { share >= 0.8 }

    public var warning: String {
        let what =
            switch name {
            case "secured": "when it is full no new connection can be protected, and none begins"
            case "peers": "when it is full new peers stay clear and unnegotiated"
            default: "when it is full the connection idle for longest is forgotten"
            }
        return "the table '\(name)' is full to \(Int(share * 100)) % (\(entries) of \(size)): \(what); a larger one: `tables: { \(name): N }` in the policy, and load again"
    }

    /// Whoever asks has walked the two large ones.
    public static func read(_ datapath: Datapath, flows: Int, secured: Int) throws -> [TableFill] {
        func fill<Key, Value>(_ name: String, _ map: BPFMap<Key, Value>, _ entries: Int) throws -> TableFill {
            guard let size = map.capacity else {
                throw NDError("map.read", "can't ask the size of map \(map.name): \(String(cString: strerror(errno)))")
            }
            return TableFill(name: name, entries: entries, size: size)
        }
        return [
            try fill("flows", datapath.flows, flows), try fill("secured", datapath.secured, secured),
            try fill("peers", datapath.peers, try datapath.peers.count()),
        ]
    }
}
