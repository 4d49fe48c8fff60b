import CNDABI

/// The numbers by which tables name machines: of those that filters name (ALE_REMOTE_MACHINE_ID). A name keeps its
/// number from generation to generation, since what is known of peers outlives one.
public struct MachineNumbers: Hashable, Sendable {
    /// Bytes of a name.
    public static let longest = Int(ND_IDENTITY_MAX)
    /// As many names as the datapath keeps (nd_machines).
    public static let most = Int(ND_MACHINES_MAX)

    public private(set) var numbers: [String: UInt32]

    /// No filter that names a machine matches anybody.
    public static let none = MachineNumbers([:])

    public init(_ numbers: [String: UInt32]) { self.numbers = numbers }

    public subscript(name: String) -> UInt32? { numbers[name] }

    /// Numbers for names that have none yet. Returns those that are new.
    public mutating func add(_ names: [String]) -> [(number: UInt32, name: String)] {
        var next = (numbers.values.max() ?? 0) + 1
        var added: [(number: UInt32, name: String)] = []
        for name in names where numbers[name] == nil {
            numbers[name] = next
            added.append((next, name))
            next += 1
        }
        return added
    }
}

extension ExpandedPolicy {
    /// The machines that filters of the layers that BPF serves name, sorted.
    public var machines: [String] {
        var names: Set<String> = []
        for filter in filters where filter.layer.kind.server != .controlPlane {
            for condition in filter.conditions where condition.field == .remoteMachine {
                if case .name(let name) = condition.value { names.insert(name) }
            }
        }
        return names.sorted()
    }
}
