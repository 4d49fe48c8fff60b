import CLibbpf
import CNDABI
import CNDSystem
import Foundation
import NDABI
import NDCore
import NDDatapath
import NDPolicy
import Testing

/// The BPF programs in the kernel, attached to nothing, with maps of their own: packets go in by
/// BPF_PROG_TEST_RUN, verdict, entries and events come out. Needs root.
final class TestBench {
    enum Program: String { case egress = "nd_egress", ingress = "nd_ingress", decrypted = "nd_nd0_ingress_framed" }

    struct Outcome {
        /// -1 passes, 2 drops, 7 redirects.
        var verdict: Int32
        var frame: [UInt8]
        var events: [DatapathEventShape]
    }

    struct DatapathEventShape: Equatable {
        var type: UInt32
        var packet: [UInt8]
        var length: Int
    }

    static let local4 = "10.1.0.1"
    static let local6 = "fd01::1"

    private let object: OpaquePointer
    private let ring: OpaquePointer
    private let collected = Collected()
    let flows: BPFMap<nd_flow_key, nd_flow>
    let peers: BPFMap<nd_peer_key, nd_peer>
    let state: BPFMap<UInt32, nd_state>
    private let policies: BPFMap<UInt32, UInt32>
    private let statsDescriptor: Int32

    init() throws {
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("bpf/build/nd_test.bpf.o").path
        let image = try Data(contentsOf: URL(fileURLWithPath: path))
        let object = image.withUnsafeBytes { nd_bpf_open($0.baseAddress, $0.count, "nd_test") }
        let opened = try #require(object)
        let loaded = bpf_object__load(opened)
        try #require(loaded == 0, "the kernel refuses the programs (root?): \(String(cString: nd_bpf_log()).suffix(1500))")
        self.object = opened
        func map(_ name: String) throws -> Int32 {
            bpf_map__fd(try #require(bpf_object__find_map_by_name(opened, name)))
        }
        flows = BPFMap(descriptor: try map("nd_flows"), name: "nd_flows")
        peers = BPFMap(descriptor: try map("nd_peers"), name: "nd_peers")
        state = BPFMap(descriptor: try map("nd_state"), name: "nd_state")
        policies = BPFMap(descriptor: try map("nd_policies"), name: "nd_policies")
        statsDescriptor = try map("nd_stats")
        let local = BPFMap<nd_addr, UInt32>(descriptor: try map("nd_local"), name: "nd_local")
        for address in [Self.local4, Self.local6, "fe80::1"] {
            try local.update(nd_addr(try ip(address)), ND_LOCAL_UNICAST)
        }
        try local.update(nd_addr(try ip("10.1.0.255")), ND_LOCAL_BROADCAST)
        ring = try #require(
            nd_ring_open(
                try map("nd_events"),
                { context, data, size in
                    guard let context, let data, size >= MemoryLayout<nd_event>.size else { return 0 }
                    let event = data.assumingMemoryBound(to: nd_event.self).pointee
                    let packet = withUnsafeBytes(of: event.packet) { Array($0.prefix(Int(event.captured))) }
                    Unmanaged<Collected>.fromOpaque(context).takeUnretainedValue().events.append(
                        DatapathEventShape(type: event.type, packet: packet, length: Int(event.length)))
                    return 0
                }, Unmanaged.passUnretained(collected).toOpaque()))
        try setState { _ in }
    }

    deinit {
        ring_buffer__free(ring)
        bpf_object__close(object)
    }

    private final class Collected { var events: [DatapathEventShape] = [] }

    func setState(_ body: (inout nd_state) -> Void) throws {
        var value = state.lookup(0) ?? nd_state()
        value.abi = ND_ABI_VERSION
        value.epoch &+= 1
        if value.nd0 == 0 { value.nd0 = 1 }
        value.mtu = 1500
        body(&value)
        try state.update(0, value)
    }

    func commit(_ policy: CompiledPolicy) throws {
        let slot = nd_map_create_policy(UInt32(MemoryLayout<nd_policy>.size))
        try #require(slot >= 0)
        defer { close(slot) }
        try BPFMap<UInt32, nd_policy>(descriptor: slot, name: "slot").update(0, try policy.abiPolicy(generation: 1))
        try policies.update(0, UInt32(slot))
        try setState { _ in }
    }

    func drops(_ reason: nd_drop_reason) -> UInt64 {
        let words = MemoryLayout<nd_stats>.size / 8
        let cpus = Int(libbpf_num_possible_cpus())
        var raw = [UInt64](repeating: 0, count: words * cpus)
        var key: UInt32 = 0
        bpf_map_lookup_elem(statsDescriptor, &key, &raw)
        let at = (MemoryLayout<nd_stats>.offset(of: \.drops) ?? 0) / 8 + Int(reason.rawValue)
        return (0..<cpus).reduce(0) { $0 + raw[$1 * words + at] }
    }

    func run(_ program: Program, _ frame: [UInt8]) throws -> Outcome {
        let descriptor = bpf_program__fd(try #require(bpf_object__find_program_by_name(object, program.rawValue)))
        var out = [UInt8](repeating: 0, count: frame.count + 64)
        var size = UInt32(out.count)
        var verdict: UInt32 = 0
        var time: UInt32 = 0
        let error = nd_bpf_test_run(
            descriptor, frame, UInt32(frame.count), &out, &size, 0, 0, 1, &verdict, &time)
        try #require(error == 0, "BPF_PROG_TEST_RUN: \(error) for \(frame.count) bytes")
        collected.events = []
        _ = ring_buffer__consume(ring)
        return Outcome(
            verdict: Int32(bitPattern: verdict), frame: Array(out.prefix(Int(size))), events: collected.events)
    }

    func forget(_ key: FlowKey) {
        flows.delete(nd_flow_key(key))
        peers.delete(nd_peer_key(key.peer))
    }
}

func ip(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }

/// Builds frames as the wire has them.
struct Frame {
    var source: IPAddress
    var destination: IPAddress
    var proto: UInt8 = IPProtocol.tcp
    var sourcePort: UInt16 = 40_000
    var destinationPort: UInt16 = 443
    var flags: UInt8 = 0x10
    var icmpType: UInt8 = 8
    var icmpCode: UInt8 = 0
    var tcpOptions: [UInt8] = []
    var ipOptions: [UInt8] = []
    /// IPv6 extension headers in front of the upper layer: (type, bytes without the first).
    var extensions: [(type: UInt8, body: [UInt8])] = []
    /// Units of 8 bytes, and whether more follow; nil for a whole packet.
    var fragment: (offset: UInt16, more: Bool)?
    var identification: UInt16 = 7
    var df = false
    var vlan: [UInt16] = []
    var payload: [UInt8] = Array("payload".utf8)

    init(_ source: IPAddress, _ destination: IPAddress) {
        self.source = source
        self.destination = destination
    }

    var upper: [UInt8] {
        func be(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 255)] }
        switch proto {
        case IPProtocol.tcp:
            let padded = tcpOptions + [UInt8](repeating: 1, count: (4 - tcpOptions.count % 4) % 4)
            var segment =
                be(sourcePort) + be(destinationPort) + [0, 0, 0, 1, 0, 0, 0, 1]
                + [UInt8((20 + padded.count) / 4) << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0] + padded + payload
            let sum = Frame.checksum(pseudo(segment.count) + segment)
            segment[16] = UInt8(sum >> 8)
            segment[17] = UInt8(sum & 255)
            return segment
        case IPProtocol.udp:
            return be(sourcePort) + be(destinationPort) + be(UInt16(8 + payload.count)) + [0, 0] + payload
        case IPProtocol.icmp, IPProtocol.icmpv6:
            return [icmpType, icmpCode, 0, 0] + be(sourcePort) + [0, 1] + payload
        default:
            return be(sourcePort) + be(destinationPort) + [0, 0, 0, 1] + payload
        }
    }

    func pseudo(_ length: Int) -> [UInt8] {
        source.bytes + destination.bytes
            + (source.isIPv4
                ? [0, proto, UInt8(length >> 8), UInt8(length & 255)]
                : [0, 0, UInt8(length >> 8), UInt8(length & 255), 0, 0, 0, proto])
    }

    static func checksum(_ bytes: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for (index, byte) in bytes.enumerated() { sum += index % 2 == 0 ? UInt32(byte) << 8 : UInt32(byte) }
        while sum >> 16 != 0 { sum = (sum & 0xffff) + (sum >> 16) }
        return ~UInt16(sum)
    }

    var bytes: [UInt8] {
        var l3: [UInt8]
        var upper = upper
        if let fragment, fragment.offset > 0 { upper = payload }
        if source.isIPv4 {
            let header = 20 + ipOptions.count
            let place = (fragment?.offset ?? 0) | (fragment?.more == true ? 0x2000 : 0) | (df ? 0x4000 : 0)
            let total = header + upper.count
            l3 = [
                0x40 | UInt8(header / 4), 0, UInt8(total >> 8), UInt8(total & 255), UInt8(identification >> 8),
                UInt8(identification & 255), UInt8(place >> 8), UInt8(place & 255), 64, proto, 0, 0,
            ]
            l3 += source.bytes + destination.bytes + ipOptions
            let sum = Frame.checksum(l3)
            l3[10] = UInt8(sum >> 8)
            l3[11] = UInt8(sum & 255)
            l3 += upper
        } else {
            var chain: [UInt8] = []
            var kinds = extensions.map(\.type)
            if fragment != nil { kinds.append(44) }
            kinds.append(proto)
            for (index, item) in extensions.enumerated() { chain += [kinds[index + 1]] + item.body }
            if let fragment {
                let place = fragment.offset << 3 | (fragment.more ? 1 : 0)
                chain += [proto, 0, UInt8(place >> 8), UInt8(place & 255), 0, 0, UInt8(identification >> 8), UInt8(identification & 255)]
            }
            let length = chain.count + upper.count
            l3 = [0x60, 0, 0, 0, UInt8(length >> 8), UInt8(length & 255), kinds[0], 64] + source.bytes + destination.bytes + chain + upper
        }
        var frame: [UInt8] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]
        for tag in vlan { frame += [0x81, 0, UInt8(tag >> 8), UInt8(tag & 255)] }
        return frame + (source.isIPv4 ? [8, 0] : [0x86, 0xdd]) + l3
    }
}
