import NDCore
import Yams

/// Addresses, ports and interface names as a policy writes them.
extension MappingReader {
    /// A prefix; `any` gives nil. The second value tells whether something valid was given.
    func prefix(_ key: String) -> (prefix: IPPrefix?, given: Bool) {
        guard let node = node(key),
            let word = scalarText(node, full(key), of: "an address or prefix", findings)
        else { return (nil, false) }
        if word == "any" { return (nil, true) }
        guard let prefix = IPPrefix(word) else {
            findings.add(
                "address", at: node.mark, "'\(full(key))' is '\(clipped(word))', which is no address or prefix",
                fix: "write 192.0.2.1, 192.0.2.0/24, 2001:db8::/32 or any")
            return (nil, false)
        }
        let written = word.split(separator: "/").first.flatMap { IPAddress(String($0)) }
        guard written == prefix.address else {
            findings.add(
                "host-bits", at: node.mark, "'\(full(key))' is \(word), which has bits beyond its length",
                fix: "write \(prefix), or \(written.map { "\($0)" } ?? "the address") for the one host")
            return (nil, false)
        }
        return (prefix, true)
    }

    /// One port, one range "low-high", or a list of both.
    func ports(_ key: String) -> [ClosedRange<UInt16>] {
        guard let node = node(key) else { return [] }
        let items: [Node]
        if case .sequence(let sequence) = node {
            items = Array(sequence.prefix(1024))
            if items.isEmpty {
                findings.add("value", at: node.mark, "'\(full(key))' is an empty list", fix: "name a port or remove the key")
            }
        } else {
            items = [node]
        }
        return items.compactMap { item in
            guard let word = scalarText(item, full(key), of: "a port", findings) else { return nil }
            if let range = Self.portRange(word) { return range }
            findings.add(
                "port", at: item.mark, "'\(full(key))' is '\(clipped(word))', which is no port or range",
                fix: "a number from 1 to 65535, or \"5000-5010\" with the lower one first")
            return nil
        }
    }

    static func portRange(_ text: String) -> ClosedRange<UInt16>? {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count <= 2, let low = parts.first.flatMap({ UInt16($0) }),
            let high = parts.last.flatMap({ UInt16($0) }), low >= 1, low <= high,
            parts.allSatisfy({ $0.allSatisfy { $0.isASCII && $0.isNumber } })
        else { return nil }
        return low...high
    }

    func proto(_ key: String) -> UInt8? {
        guard let node = node(key), let word = scalarText(node, full(key), of: "a protocol", findings)
        else { return nil }
        if let number = IPProtocol.number(word) { return number }
        refuse(
            word, at: node.mark, key: full(key),
            allowed: ["tcp", "udp", "icmp", "icmpv6", "sctp", "esp", "ah", "a number from 0 to 255"], findings)
        return nil
    }

    /// "127.0.0.1:9466" or "[::1]:9466".
    func endpoint(_ key: String) -> Endpoint? {
        guard let node = node(key), let word = scalarText(node, full(key), of: "an address with a port", findings)
        else { return nil }
        if let endpoint = Self.endpoint(word) { return endpoint }
        findings.add(
            "address", at: node.mark, "'\(full(key))' is '\(clipped(word))', which is no address with a port",
            fix: "write 127.0.0.1:9466, \"[::1]:9466\" or none")
        return nil
    }

    private static func endpoint(_ text: String) -> Endpoint? {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]), port > 0
        else { return nil }
        var host = text[..<colon]
        let bracketed = host.hasPrefix("[") && host.hasSuffix("]")
        if bracketed { host = host.dropFirst().dropLast() }
        guard let address = IPAddress(String(host)), bracketed == String(host).contains(":") else { return nil }
        return Endpoint(address, port)
    }

    func interfaceNames(_ key: String) -> [String] {
        guard let items = list(key, of: "interface names", most: 64) else { return [] }
        var names: [String] = []
        for item in items {
            guard let name = scalarText(item, full(key), of: "an interface name", findings) else { continue }
            if InterfacePattern(name) == nil {
                findings.add(
                    "interface", at: item.mark, "'\(clipped(name))' is no interface name",
                    fix: "1 to 15 characters without blanks, '/' and ':' (`ip -brief link` lists them), a pattern with * or ?, all, or default-route")
            } else if names.contains(name) {
                findings.add("interface", at: item.mark, "interface '\(name)' is given twice", fix: "keep one of them")
            } else {
                names.append(name)
            }
        }
        return names
    }
}
