import Foundation
import NDCore
import NDEngine
import NDLab

/// How many SA pairs the kernel takes, how fast, and at which price. In a namespace of its own.
enum SACapacity {
    static func measure(pairs: Int, progress: (String) -> Void) throws -> [Figure] {
        let lab = try Lab(tag: "sa", hosts: ["alpha"])
        defer { lab.close() }
        let host = try lab.host("alpha")
        progress("\(pairs) SA pairs in the kernel")
        return try lab.inside(host) { try Self.run(pairs, local: host.ipv4) }
    }

    private static func run(_ count: Int, local: IPAddress) throws -> [Figure] {
        var configuration = KernelEngineConfiguration()
        configuration.deviceName = "ndsa"
        let engine = try KernelEngine(configuration)
        _ = try engine.start(events: NoEvents())
        defer { engine.stop(keepDevice: false) }
        let before = memory()
        let suite = ESPSuite.aesGCM16(keyBits: 128)
        let began = Instant.now()
        var peers: [PeerKey] = []
        for index in 0..<count {
            let peer = PeerKey(local: local, remote: IPAddress(high: 0, low: 0xffff_0a80_0000 + UInt64(index)))
            func sa(_ direction: SecurityAssociation.Direction, _ spi: Int) -> SecurityAssociation {
                SecurityAssociation(
                    direction: direction, spi: UInt32(spi), peer: peer, suite: suite,
                    keymat: SecretBytes(SystemRandom().bytes(suite.keymatBytes)),
                    encapsulation: .native, extendedSequenceNumbers: true, replayWindow: 1024)
            }
            // Inbound SPIs are unique for our one address.
            try engine.install(
                SecurityAssociationPair(inbound: sa(.inbound, 4096 + index), outbound: sa(.outbound, 4096)))
            try engine.activateOutbound(peer: peer, spi: 4096)
            peers.append(peer)
        }
        let installed = Instant.now()
        let listed = engine.securityAssociations().count
        let dumped = Instant.now()
        let policies = engine.policyCount
        let after = memory()
        for (index, peer) in peers.enumerated() {
            engine.remove(peer: peer, inboundSPI: UInt32(4096 + index), outboundSPI: 4096)
        }
        let removed = Instant.now()
        let left = engine.securityAssociations().count
        let seconds = max(installed.since(began).seconds, 1e-9)
        return [
            Figure("SA pairs installed", "pairs/s", [Double(count) / seconds]),
            Figure("SA pairs removed", "pairs/s", [Double(count) / max(removed.since(dumped).seconds, 1e-9)]),
            Figure("listing \(listed) SAs", "ms", [dumped.since(installed).milliseconds], limit: "all: \(count * 2)", met: listed == count * 2),
            Figure("memory of the kernel for a pair", "KiB", [Double(before.available - after.available) / Double(count)]),
            Figure("resident memory of the process", "MiB", [Double(after.resident) / 1024]),
            Figure("XFRM policies", "policies", [Double(policies)], limit: "2, however many pairs", met: policies == 2),
            Figure("SAs left after removal", "SAs", [Double(left)], limit: "0", met: left == 0),
        ]
    }

    /// KiB.
    private static func memory() -> (available: Int, resident: Int) {
        func field(_ file: String, _ name: String) -> Int {
            let text = (try? String(contentsOfFile: file, encoding: .utf8)) ?? ""
            let line = text.split(separator: "\n").first { $0.hasPrefix(name) }
            return line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) } ?? 0
        }
        return (field("/proc/meminfo", "MemAvailable:"), field("/proc/self/status", "VmRSS:"))
    }

    private final class NoEvents: EngineEvents {
        func firstInboundPacket(spi: UInt32, peer: PeerKey) {}
        func ikeDatagram(_ bytes: [UInt8], local: Endpoint, remote: Endpoint) {}
        func sequenceExhausted(spi: UInt32, peer: PeerKey) {}
        func softExpired(spi: UInt32, peer: PeerKey) {}
        func expired(spi: UInt32, peer: PeerKey) {}
        func acquire(_ peer: PeerKey) {}
        func fragmentsWait(_ peer: PeerKey) {}
        func engineLog(_ text: String) {}
    }
}
