import CNDABI
import NDABI
import NDCore

extension Datapath {
    /// The machines that policies named, with their numbers.
    public func machineNumbers() -> [String: UInt32] {
        Dictionary(machines.entries().map { ($0.key.text, $0.value) }, uniquingKeysWith: { first, _ in first })
    }

    /// The number of the machine that authenticated with the protection's identity; 0: no filter names it.
    public func machineNumber(_ protection: nd_protection) -> UInt16 {
        MachineName.text(protection)
            .flatMap { machines.lookup(nd_machine($0)) }.map { UInt16(clamping: $0) } ?? 0
    }

    /// Before the policy that names them: and who is known already gets the number.
    func name(_ new: [(number: UInt32, name: String)]) throws {
        guard !new.isEmpty else { return }
        for (number, name) in new { try machines.update(nd_machine(name), number) }
        for (key, value) in protections.entries() where value.machine == 0 {
            var value = value
            value.machine = machineNumber(value)
            if value.machine != 0 { try protections.update(key, value, onlyExisting: true) }
        }
    }
}

/// An identity as policies write it.
enum MachineName {
    static func text(_ protection: nd_protection) -> String? {
        let length = Int(protection.identity_length)
        let kept = withUnsafeBytes(of: protection.identity) { Array($0.prefix(length)) }
        // Of a longer one the end is not kept.
        return kept.count == length ? text(type: protection.identity_type, kept) : nil
    }

    /// ID types of RFC 2407 §4.6.2.1. nil: nothing that a policy could write, or longer than what is kept.
    static func text(type: UInt8, _ data: [UInt8]) -> String? {
        switch (type, data.count) {
        case (1, 4), (5, 16): IPAddress(bytes: data)?.description
        case (2, 1...Int(ND_IDENTITY_MAX)), (3, 1...Int(ND_IDENTITY_MAX)):
            data.contains(0) ? nil : String(validating: data, as: UTF8.self)
        default: nil
        }
    }
}

extension nd_machine {
    init(_ text: String) {
        self.init()
        withUnsafeMutableBytes(of: &name) { $0.copyBytes(from: text.utf8.prefix($0.count)) }
    }

    public var text: String { withUnsafeBytes(of: name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) } }
}
