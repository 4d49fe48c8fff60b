import CESP
import CNDABI
import Foundation
import Glibc
import NDCore
import Testing

@testable import NDEngine

/// One namespace, one engine, and the test as its peer:
///
///     test 127.0.0.1  -- lo -->  127.0.0.2 engine -- ndtest0 --> the stack
private func withEngine<T>(_ events: RecordedEvents, _ body: (UserEngine) throws -> T) throws -> T {
    var configuration = UserEngineConfiguration()
    configuration.deviceName = "ndtest0"
    configuration.workers = 2
    configuration.natTraversalPort = Net.enginePort
    let engine = try UserEngine(configuration)
    _ = try engine.start(events: events)
    defer { engine.stop(keepDevice: false) }
    return try body(engine)
}

private func eventually(_ condition: () -> Bool) -> Bool {
    for _ in 0..<300 {
        if condition() { return true }
        usleep(10_000)
    }
    return false
}

/// A process that another test forks holds the device's descriptors until it executes: a device may
/// outlive its engine for that moment.
@Suite(.serialized)
struct EngineTests {
    @Test("A burst of large packets of protocol 50 is received without a cut")
    func largeNative() async throws {
        let sums = try await Net.alone { () -> EngineStatistics in
            let inbound = testSA(.inbound, local: bob4, remote: alice4, native: true)
            var outbound = inbound
            outbound.direction = .outbound
            let sealer = Sealer(inbound)
            let packets = (1...24).map { sealer.seal([UInt8](repeating: 7, count: 41_000), proto: 253, number: UInt64($0)) }
            return try withEngine(RecordedEvents()) { engine in
                try engine.install(SecurityAssociationPair(inbound: inbound, outbound: outbound))
                let fd = nd_esp_open(false, 0, 8 << 20)
                defer { close(fd) }
                var (from, to) = (nd_addr16(alice4), nd_addr16(bob4))
                for packet in packets { _ = nd_esp_send(fd, false, packet, packet.count, UInt32(packet.count), &from, &to) }
                _ = eventually { engine.statistics().inboundPackets == 24 }
                return engine.statistics()
            }
        }
        #expect(sums.inboundPackets == 24)
        #expect(sums.drops[Int(ND_DROP_AUTHENTICATION.rawValue)] == 0)
    }

    @Test("The device goes with the engine, or stays when asked to")
    func device() async throws {
        let (during, kept, removed, after) = try await Net.alone { () -> (Bool, Bool, Bool, Bool) in
            let during = try withEngine(RecordedEvents()) { _ in if_nametoindex("ndtest0") != 0 }
            guard eventually({ if_nametoindex("ndtest0") == 0 }) else { return (during, false, false, true) }
            try withEngine(RecordedEvents()) { $0.stop(keepDevice: true) }
            let kept = if_nametoindex("ndtest0") != 0
            return (during, kept, UserEngine.removeDevice("ndtest0"), !eventually { if_nametoindex("ndtest0") == 0 })
        }
        #expect(during)
        #expect(kept)
        #expect(removed)
        #expect(!after)
    }

    @Test("A deleted device is reported once and not polled for ever")
    func deviceDeleted() async throws {
        let log = try await Net.alone { () -> [String] in
            let events = RecordedEvents()
            return try withEngine(events) { _ in
                let process = Process()
                process.executableURL = URL(fileURLWithPath: "/usr/sbin/ip")
                process.arguments = ["link", "delete", "ndtest0"]
                try process.run()
                process.waitUntilExit()
                _ = eventually { events.state.withLock { $0.log.count } >= 2 }
                usleep(50_000)
                return events.state.withLock { $0.log }
            }
        }
        #expect(log.count == 2)
    }

    @Test("A second engine on the same port is refused and takes nothing away")
    func partialStart() async throws {
        let (failed, alive) = try await Net.alone { () -> (Bool, Bool) in
            let blocker = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
            defer { close(blocker) }
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = Net.enginePort.bigEndian
            _ = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(blocker, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
            }
            let failed: Bool
            do {
                try withEngine(RecordedEvents()) { _ in }
                failed = false
            } catch { failed = true }
            return (failed, !eventually { if_nametoindex("ndtest0") == 0 })
        }
        #expect(failed)
        #expect(!alive)
    }
}
