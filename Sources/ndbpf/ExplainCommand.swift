import ArgumentParser
import Foundation
import NDCore
import NDPolicy
import NDTelemetry

struct Explain: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The whole way of a packet through the filters to its verdict.",
        discussion:
            "By the policy file alone: what a new flow of an unknown peer meets. SRC and DST are the packet's, so with --inbound DST is this host.")
    @OptionGroup var options: GlobalOptions
    @OptionGroup var file: PolicyFileOption

    @Argument(help: "Source address.") var source: String
    @Argument(help: "Destination address.") var destination: String
    @Argument(help: "Protocol: a name such as tcp or icmpv6, or a number.") var proto: String
    @Argument(help: "SOURCE:DESTINATION ports, or the destination port; of ICMP TYPE:CODE or the type.") var ports: String = ""

    @Flag(help: "The packet arrives.") var inbound = false
    @Flag(help: "It came under protection.") var secured = false
    @Flag(help: "It is a fragment.") var fragment = false
    @Flag(help: "Show every filter that doesn't match.") var all = false
    @Option(help: "The interface by which it comes or goes.") var interface: String?

    /// What a client's port may be where none is given (RFC 6335 §6).
    private static let dynamicPort: UInt16 = 49152

    func run() throws {
        let policy = try Policy.load(path: file.policy)
        let explanation = Explanation(try packet(), inbound ? .inbound : .outbound, in: policy.expanded) { Self.index($0) }
        print(options.json ? try JSONOutput.text("explanation", explanation) + "\n" : explanation.text(most: all ? nil : 8), terminator: "")
    }

    private static func index(_ name: String) -> UInt32? {
        let index = if_nametoindex(name)
        return index == 0 ? nil : index
    }

    private func packet() throws -> Packet {
        guard let from = IPAddress(source), let to = IPAddress(destination) else {
            throw NDError(
                "usage.address", "'\(IPAddress(source) == nil ? source : destination)' is no address", hint: "write 192.0.2.1 or 2001:db8::1")
        }
        guard from.isIPv4 == to.isIPv4 else {
            throw NDError("usage.address", "\(from) and \(to) are of different families", hint: "give two IPv4 or two IPv6 addresses")
        }
        guard let number = IPProtocol.number(proto) else {
            throw NDError("usage.protocol", "there is no protocol '\(proto)'", hint: "tcp, udp, icmp, icmpv6, sctp, or a number from 0 to 255")
        }
        let isICMP = number == IPProtocol.icmp || number == IPProtocol.icmpv6
        let parts = try numbers(most: isICMP ? 255 : 65535)
        var first: UInt16 = 0
        var second: UInt16 = 0
        if !isICMP, !ports.isEmpty {
            first = parts.count == 2 ? parts[0] : Self.dynamicPort
            second = parts.last ?? 0
        }
        let sender = Endpoint(from, first)
        let receiver = Endpoint(to, second)
        var packet = Packet(
            key: FlowKey(local: inbound ? receiver : sender, remote: inbound ? sender : receiver, proto: number),
            tcpFlags: number == IPProtocol.tcp ? .syn : [],
            icmpType: isICMP ? UInt8(truncatingIfNeeded: parts.first ?? 8) : 0,
            icmpCode: isICMP && parts.count == 2 ? UInt8(truncatingIfNeeded: parts[1]) : 0)
        if packet.hasPorts, ports.isEmpty {
            throw NDError("usage.ports", "\(proto) has ports", hint: "write SOURCE:DESTINATION, or the destination port alone")
        }
        if secured { packet.flags.insert(.isIPsecSecured) }
        if fragment { packet.flags.insert(.isFragment) }
        if let interface {
            guard let index = Self.index(interface) else {
                throw NDError("usage.interface", "there is no interface '\(interface)'", hint: "`ip -brief link` lists them")
            }
            packet.interface = index
        }
        return packet
    }

    private func numbers(most: UInt16) throws -> [UInt16] {
        guard !ports.isEmpty else { return [] }
        let parts = ports.split(separator: ":", omittingEmptySubsequences: false)
        let numbers = parts.compactMap { UInt16($0) }.filter { $0 <= most }
        guard parts.count <= 2, numbers.count == parts.count else {
            throw NDError("usage.ports", "'\(ports)' are no ports", hint: "one number or two with a colon, up to \(most): 40000:443")
        }
        return numbers
    }
}
