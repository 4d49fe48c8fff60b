/// One item of a policy's `interfaces`: which network interfaces are protected.
public enum InterfacePattern: Hashable, Sendable, CustomStringConvertible {
    /// By its name or an alternative name.
    case name(String)
    /// `*` stands for any text, `?` for one character.
    case glob(String)
    /// Every interface but the loopback.
    case all
    /// Those that a default route goes by, of any table and either family.
    case defaultRoute

    /// nil: nothing that an interface could be called.
    public init?(_ text: String) {
        switch text {
        case "all": self = .all
        case "default-route": self = .defaultRoute
        default:
            // dev_valid_name of the kernel. A pattern may be longer than the names that it stands for.
            guard !text.isEmpty, text != ".", text != "..",
                text.unicodeScalars.allSatisfy({ $0.value > 0x20 && $0.value != 0x7f && $0 != "/" && $0 != ":" })
            else { return nil }
            if text.utf8.contains(where: { $0 == UInt8(ascii: "*") || $0 == UInt8(ascii: "?") }) {
                guard text.utf8.count <= 64 else { return nil }
                self = .glob(text)
            } else {
                // IFNAMSIZ with its terminator.
                guard text.utf8.count <= 15 else { return nil }
                self = .name(text)
            }
        }
    }

    public var description: String {
        switch self {
        case .name(let text), .glob(let text): text
        case .all: "all"
        case .defaultRoute: "default-route"
        }
    }

    /// Whether a name is one that the pattern stands for. The default route is no matter of names.
    public func matches(_ name: String) -> Bool {
        switch self {
        case .name(let own): name == own
        case .glob(let pattern): Self.matches(Array(name.utf8)[...], Array(pattern.utf8)[...])
        case .all: true
        case .defaultRoute: false
        }
    }

    /// Takes time in proportion to the product of the lengths: of the last `*` only is anything tried again.
    private static func matches(_ name: ArraySlice<UInt8>, _ pattern: ArraySlice<UInt8>) -> Bool {
        var (n, p) = (name.startIndex, pattern.startIndex)
        var star: (pattern: Int, name: Int)?
        while n < name.endIndex {
            if p < pattern.endIndex, pattern[p] == UInt8(ascii: "*") {
                star = (p, n)
                p += 1
            } else if p < pattern.endIndex, pattern[p] == UInt8(ascii: "?") || pattern[p] == name[n] {
                n += 1
                p += 1
            } else if let last = star {
                star = (last.pattern, last.name + 1)
                n = last.name + 1
                p = last.pattern + 1
            } else {
                return false
            }
        }
        return pattern[p...].allSatisfy { $0 == UInt8(ascii: "*") }
    }
}
