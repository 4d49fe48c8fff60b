import CNDABI
import NDABI
import NDCore

extension Datapath {
    /// The machines that policies named, with their numbers.
    public func machineNumbers() -> [String: UInt32] {
        Dictionary(machines.entries().map { ($0.value.text, $0.key) }, uniquingKeysWith: { first, _ in first })
    }

    /// What filters call the machine that authenticated with this identity; 0: nothing.
    public func machineNumber(type: UInt8, identity: [UInt8]) -> UInt16 {
        guard let name = MachineName.text(type: type, identity) else { return 0 }
        return machineNumbers()[name].map { UInt16(clamping: $0) } ?? 0
    }

    /// Before the policy that names them: and who is known already gets the number.
    func name(_ new: [(number: UInt32, name: String)]) throws {
        guard !new.isEmpty else { return }
        for (number, name) in new {
            guard number <= UInt16.max, try machines.update(number, nd_machine(name), onlyNew: true) else {
                throw NDError(
                    "policy.conflict", "another policy was applied at the same moment",
                    hint: "apply it again; nothing was changed")
            }
        }
        for (key, value) in protections.entries() where value.machine == 0 {
            var value = value
            let identity = withUnsafeBytes(of: value.identity) { Array($0.prefix(Int(value.identity_length))) }
            value.machine = machineNumber(type: value.identity_type, identity: identity)
            if value.machine != 0 { try protections.update(key, value, onlyExisting: true) }
        }
    }
}

/// An identity as policies write it.
enum MachineName {
    /// ID types of RFC 2407 §4.6.2.1. nil: nothing that a policy could write, or longer than what is kept.
    static func text(type: UInt8, _ data: [UInt8]) -> String? {
        switch (type, data.count) {
        case (1, 4): return "\(IPAddress(high: 0, low: 0xffff_0000_0000 | number(data[...])))"
        case (5, 16): return "\(IPAddress(high: number(data[..<8]), low: number(data[8...])))"
        case (2, 1...Int(ND_IDENTITY_MAX)), (3, 1...Int(ND_IDENTITY_MAX)):
            return data.contains(0) ? nil : String(validating: data, as: UTF8.self)
        default: return nil
        }
    }

    private static func number(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
}

extension nd_machine {
    init(_ text: String) {
        self.init()
        withUnsafeMutableBytes(of: &name) { $0.copyBytes(from: text.utf8.prefix($0.count)) }
    }

    public var text: String { withUnsafeBytes(of: name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) } }
}
