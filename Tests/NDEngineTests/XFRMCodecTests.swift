import Foundation
import NDCore
import Testing

@testable import NDEngine

/// Requests byte for byte as iproute2 6.1 sends them for the same objects (sequence number zero).
@Suite("XFRM netlink messages")
struct XFRMCodecTests {
    static let key = (0..<20).map { UInt8($0) }

    static func sa(
        _ direction: SecurityAssociation.Direction, _ local: String, _ remote: String, spi: UInt32,
        suite: ESPSuite = .aesGCM16(keyBits: 128), keymat: [UInt8] = key, esn: Bool = true, window: Int = 4096,
        encapsulation: ESPEncapsulation = .native
    ) throws -> SecurityAssociation {
        SecurityAssociation(
            direction: direction, spi: spi,
            peer: PeerKey(local: try #require(IPAddress(local)), remote: try #require(IPAddress(remote))), suite: suite,
            keymat: SecretBytes(keymat), encapsulation: encapsulation, extendedSequenceNumbers: esn, replayWindow: window)
    }

    static func hex(_ request: NetlinkRequest) -> String {
        var request = request
        request.finish(sequence: 0)
        return request.bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }

    @Test("An outbound AES-GCM SA of an interface, extended sequence numbers")
    func gcmOutbound() throws {
        let request = XFRMStateCodec.create(
            try Self.sa(.outbound, "10.77.0.1", "10.77.0.2", spi: 0x1122_3344), reqid: 0x6e64_0001,
            interfaceID: 0x6e64_2bf1, lifetime: XFRMLifetime())
        #expect(Self.hex(request) == "740100001000050000000000000000000a4d00020000000000000000000000000a4d0001000000000000000000000000"
            + "0000000000000000020020200000000000000000000000000a4d00020000000000000000000000001122334432000000"
            + "0a4d0001000000000000000000000000ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
            + "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
            + "00000000000000000000000000000000000000000000000000000000000000000100646e020000008000000000000000"
            + "60001200726663343130362867636d286165732929000000000000000000000000000000000000000000000000000000"
            + "0000000000000000000000000000000000000000a000000080000000000102030405060708090a0b0c0d0e0f10111213"
            + "1c00170001000000000000000000000000000000000000000100000008001f00f12b646e")
    }

    @Test("An inbound AES-GCM SA over IPv6 with a window of 4,096")
    func gcmInbound() throws {
        let request = XFRMStateCodec.create(
            try Self.sa(.inbound, "fd77::1", "fd77::2", spi: 0x5566_7788), reqid: 0x6e64_0001,
            interfaceID: 0x6e64_2bf1, lifetime: XFRMLifetime())
        #expect(Self.hex(request) == "74010000100005000000000000000000fd770000000000000000000000000001fd770000000000000000000000000002"
            + "00000000000000000a008080000000000000000000000000fd7700000000000000000000000000015566778832000000"
            + "fd770000000000000000000000000002ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
            + "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
            + "00000000000000000000000000000000000000000000000000000000000000000100646e0a0000008000000000000000"
            + "60001200726663343130362867636d286165732929000000000000000000000000000000000000000000000000000000"
            + "0000000000000000000000000000000000000000a000000080000000000102030405060708090a0b0c0d0e0f10111213"
            + "1c00170080000000000000000000000000000000000000000010000008001f00f12b646e")
    }

    @Test("An inbound AES-CBC SA with HMAC-SHA2-256, 32-bit sequence numbers, in UDP behind a NAT")
    func cbcInUDP() throws {
        let request = XFRMStateCodec.create(
            try Self.sa(
                .inbound, "10.77.0.1", "10.77.0.2", spi: 0x99aa_bbcc, suite: .aesCBCHMACSHA256(keyBits: 128),
                keymat: (0..<16).map { UInt8($0) } + (0x20..<0x40).map { UInt8($0) }, esn: false, window: 1024,
                encapsulation: .udp(localPort: 4500, remotePort: 61_000)),
            reqid: 0x6e64_0001, interfaceID: 0x6e64_2bf1, lifetime: XFRMLifetime())
        #expect(Self.hex(request) == "f40100001000050000000000000000000a4d00010000000000000000000000000a4d0002000000000000000000000000"
            + "0000000000000000020020200000000000000000000000000a4d000100000000000000000000000099aabbcc32000000"
            + "0a4d0002000000000000000000000000ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
            + "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
            + "00000000000000000000000000000000000000000000000000000000000000000100646e020000000000000000000000"
            + "6c001400686d616328736861323536290000000000000000000000000000000000000000000000000000000000000000"
            + "00000000000000000000000000000000000000000001000080000000202122232425262728292a2b2c2d2e2f30313233"
            + "3435363738393a3b3c3d3e3f580002006362632861657329000000000000000000000000000000000000000000000000"
            + "000000000000000000000000000000000000000000000000000000000000000080000000000102030405060708090a0b"
            + "0c0d0e0f1c0004000200ee4811940000000000000000000000000000000000001c001700200000000000000000000000"
            + "00000000000000000004000008001f00f12b646e")
    }

    @Test("An outbound SA outside the interface with limits of bytes and time")
    func limits() throws {
        let request = XFRMStateCodec.create(
            try Self.sa(.outbound, "10.77.0.1", "10.77.0.2", spi: 0x1122_3344), reqid: 0x6e64_0002, interfaceID: 0,
            lifetime: XFRMLifetime(softBytes: 921_600, hardBytes: 1_024_000, hardSeconds: 3660))
        #expect(Self.hex(request) == "6c0100001000050000000000000000000a4d00020000000000000000000000000a4d0001000000000000000000000000"
            + "0000000000000000020020200000000000000000000000000a4d00020000000000000000000000001122334432000000"
            + "0a4d000100000000000000000000000000100e000000000000a00f0000000000ffffffffffffffffffffffffffffffff"
            + "00000000000000004c0e0000000000000000000000000000000000000000000000000000000000000000000000000000"
            + "00000000000000000000000000000000000000000000000000000000000000000200646e020000008000000000000000"
            + "60001200726663343130362867636d286165732929000000000000000000000000000000000000000000000000000000"
            + "0000000000000000000000000000000000000000a000000080000000000102030405060708090a0b0c0d0e0f10111213"
            + "1c001700010000000000000000000000000000000000000001000000")
    }

    @Test("The wildcard policies, level required, all algorithms")
    func policies() {
        #expect(
            Self.hex(XFRMPolicyCodec.create(family: AF_INET, reqid: 0x6e64_0001, interfaceID: 0x6e64_2bf1)) == "040100001900050000000000000000000000000000000000000000000000000000000000000000000000000000000000"
            + "000000000000000002000000000000000000000000000000ffffffffffffffffffffffffffffffffffffffffffffffff"
            + "ffffffffffffffff00000000000000000000000000000000000000000000000000000000000000000000000000000000"
            + "000000000000000000000000000000000000000000000000000000000000000001000000000000004400050000000000"
            + "000000000000000000000000000000003200000002000000000000000000000000000000000000000100646e00000000"
            + "ffffffffffffffffffffffff08001f00f12b646e")
        #expect(
            Self.hex(XFRMPolicyCodec.create(family: AF_INET6, reqid: 0x6e64_0001, interfaceID: 0x6e64_2bf1)) == "040100001900050000000000000000000000000000000000000000000000000000000000000000000000000000000000"
            + "00000000000000000a000000000000000000000000000000ffffffffffffffffffffffffffffffffffffffffffffffff"
            + "ffffffffffffffff00000000000000000000000000000000000000000000000000000000000000000000000000000000"
            + "000000000000000000000000000000000000000000000000000000000000000001000000000000004400050000000000"
            + "00000000000000000000000000000000320000000a000000000000000000000000000000000000000100646e00000000"
            + "ffffffffffffffffffffffff08001f00f12b646e")
    }

    @Test("The XFRM interface with its id")
    func link() {
        #expect(Self.hex(XFRMLinkCodec.create(name: "ndx", interfaceID: 0x6e64_2bf1)) == "4000000010000506000000000000000000000000000000000000000000000000080003006e6478001800120008000100"
            + "7866726d0c00020008000200f12b646e")
    }

    @Test("Deleting names destination, SPI and protocol; the source, which iproute2 adds, is not needed")
    func delete() throws {
        let text = Self.hex(XFRMStateCodec.delete(destination: try #require(IPAddress("10.77.0.2")), spi: 0x1122_3344))
        let golden = "3c0000001100050000000000000000000a4d0002000000000000000000000000112233440200320014000d000a4d0001"
            + "000000000000000000000000"
        #expect(text.dropFirst(8) == golden.dropFirst(8).dropLast(40))
    }

    @Test("What was encoded reads back, with counters and sequence numbers of the kernel")
    func decode() throws {
        var request = XFRMStateCodec.create(
            try Self.sa(
                .inbound, "10.77.0.1", "10.77.0.2", spi: 0x99aa_bbcc, suite: .aesCBCHMACSHA256(keyBits: 256),
                keymat: [UInt8](repeating: 7, count: 64), encapsulation: .udp(localPort: 4500, remotePort: 61_000)),
            reqid: 9, interfaceID: 0x6e64_2bf1, lifetime: XFRMLifetime(hardSeconds: 99))
        request.finish(sequence: 5)
        let message = try #require(NetlinkMessage.parse(request.bytes).first)
        #expect(message.sequence == 5)
        let state = try #require(XFRMStateCodec.decode(message))
        #expect(state.source == IPAddress("10.77.0.2") && state.destination == IPAddress("10.77.0.1"))
        #expect(state.spi == 0x99aa_bbcc && state.reqid == 9 && state.interfaceID == 0x6e64_2bf1)
        #expect(state.suite == .aesCBCHMACSHA256(keyBits: 256) && state.extendedSequenceNumbers)
        #expect(state.encapsulation == XFRMState.Ports(source: 61_000, destination: 4500))
        #expect(state.hardSeconds == 99)
    }

    @Test("Cut and mangled messages are read as far as they are whole, never beyond")
    func mangled() throws {
        var request = XFRMStateCodec.create(
            try Self.sa(.inbound, "fd77::1", "fd77::2", spi: 0x5566_7788), reqid: 1, interfaceID: 2, lifetime: XFRMLifetime())
        request.finish(sequence: 1)
        for length in 0..<request.bytes.count {
            for message in NetlinkMessage.parse(request.bytes.prefix(length)) { _ = XFRMStateCodec.decode(message) }
            var short = NetlinkMessage(type: 0x10, flags: 0, sequence: 1, payload: Array(request.bytes.dropFirst(16).prefix(length)))
            _ = XFRMStateCodec.decode(short)
            _ = XFRMPolicyCodec.decode(short)
            _ = XFRMLinkCodec.decode(short)
            for type: UInt16 in 0x10...0x28 {
                short.type = type
                _ = XFRMNotice.decode(short)
            }
        }
        #expect(NetlinkMessage.parse(request.bytes.prefix(100)).isEmpty)
        #expect(NetlinkMessage.parse([4, 0, 0, 0] + [UInt8](repeating: 0, count: 12)).isEmpty, "a length below the header's ends the walk")
    }

    @Test("Error counters of the kernel count under the reasons of nd.h, from the start of the engine on")
    func errorCounters() {
        let text = "XfrmInError             \t0\nXfrmInNoStates          \t17\nbroken\nXfrmOutNoStates\t3\n"
        #expect(XFRMErrorCounters.parse(text) == ["XfrmInError": 0, "XfrmInNoStates": 17, "XfrmOutNoStates": 3])
    }
}
