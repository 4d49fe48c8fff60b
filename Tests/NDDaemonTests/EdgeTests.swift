import Foundation
import NDCore
import NDPolicy
import NDTelemetry
import Testing

@testable import NDDaemon

@Suite("The daemon's edges")
struct EdgeTests {
    @Test("A replayed SYN gets the checksum that the device would have made")
    func checksum() throws {
        // 10.0.0.1:1 > 10.0.0.2:2, TCP SYN, checksum field with rubbish (CHECKSUM_PARTIAL).
        var packet: [UInt8] = [
            0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
            0, 1, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 2, 0xfa, 0xf0, 0x12, 0x34, 0, 0,
        ]
        let done = try #require(PacketReplay.withChecksums(packet))
        // The sum over pseudo header and segment, checksum included, is all ones.
        var sum: UInt32 = 0
        let pseudo = Array(done[12..<20]) + [0, 6, 0, 20] + Array(done[20...])
        for (index, byte) in pseudo.enumerated() { sum += index % 2 == 0 ? UInt32(byte) << 8 : UInt32(byte) }
        while sum >> 16 != 0 { sum = (sum & 0xffff) + (sum >> 16) }
        #expect(sum == 0xffff)
        packet[7] = 1
        #expect(PacketReplay.withChecksums(packet) == nil, "a fragment can't be sent again")
    }

    @Test("Truncated and contradicting packets are never replayed")
    func truncated() {
        let packet: [UInt8] = [
            0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
            0, 1, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 2, 0xfa, 0xf0, 0x12, 0x34, 0, 0,
        ]
        for length in 0..<packet.count { #expect(PacketReplay.withChecksums(Array(packet.prefix(length))) == nil) }
        for first in [UInt8(0x00), 0x41, 0x4f, 0x75, 0xff] {
            #expect(PacketReplay.withChecksums([first] + packet.dropFirst()) == nil)
        }
    }

    @Test("An ICMP error names the IKE datagram that it quotes, and nothing shorter is believed")
    func quoted() throws {
        let quoted: [UInt8] = [
            0x45, 0, 0, 60, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 0xf4, 1, 0xf4, 0, 40, 0, 0,
        ]
        let message: [UInt8] =
            [0x45, 0, 0, 56, 0, 1, 0, 0, 64, 1, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1, 3, 3, 0, 0, 0, 0, 0, 0] + quoted
        let found = try #require(NetworkWatcher.quotedDatagram(message, ipv6: false))
        #expect(found.local.description == "10.0.0.1:500")
        #expect(found.remote.description == "10.0.0.2:500")
        for length in 0..<(message.count - 4) {
            #expect(NetworkWatcher.quotedDatagram(Array(message.prefix(length)), ipv6: false) == nil)
        }
        var tooBig = message
        tooBig[21] = 4
        #expect(NetworkWatcher.quotedDatagram(tooBig, ipv6: false) == nil, "fragmentation needed is no unreachable peer")
    }
}

@Suite("The documents say what the program does")
struct DocumentTests {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    @Test("docs/metrics.md lists every metric, every reason to pass and every drop reason, and no other")
    func metrics() throws {
        let text = try String(contentsOf: Self.root.appendingPathComponent("docs/metrics.md"), encoding: .utf8)
        let listed = Set(
            text.split(separator: "\n").compactMap { line -> String? in
                guard line.hasPrefix("| `") else { return nil }
                return line.dropFirst(3).split(separator: "`").first.map(String.init)
            })
        let snapshot = Snapshot(build: .init(version: "0", engine: "user", scenario: "boundary"))
        var names = Set(snapshot.families.map(\.name) + Lists.dropReasons.map(\.label) + Lists.passKinds.map(\.label))
        // Left out of a snapshot without a start time.
        names.formUnion(listed.filter { $0.hasSuffix("start_time_seconds") })
        #expect(listed.symmetricDifference(names).sorted() == [])
    }

    @Test("docs/policy.md names every key that the reader knows")
    func policy() throws {
        let text = try String(contentsOf: Self.root.appendingPathComponent("docs/policy.md"), encoding: .utf8)
        // The reader lists what it knows when it meets a key that it does not know.
        for (section, unknown) in [("", "x: 1"), ("keying", "keying: { x: 1 }"), ("discovery", "discovery: { x: 1 }"), ("engine", "engine: { x: 1 }"), ("metrics", "metrics: { x: 1 }"), ("exempt", "exempt: [ { x: 1 } ]")] {
            let file = "version: 1\nscenario: boundary\n\(unknown)\n"
            let errors = #expect(throws: PolicyErrors.self) { try Policy.parse(file, file: "p") }
            let hint = errors?.errors.compactMap(\.hint).first { $0.contains("known here: ") } ?? ""
            let keys = hint.replacingOccurrences(of: "known here: ", with: "").split(separator: ",").map {
                $0.trimmingCharacters(in: .whitespaces)
            }
            #expect(!keys.isEmpty, "\(section): \(hint)")
            for key in keys { #expect(text.contains("`\(key)`"), "\(section).\(key) is not in docs/policy.md") }
        }
    }
}
