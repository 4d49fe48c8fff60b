import NDCore
import NDPolicy
import Testing

@Suite("Reading a policy")
struct ReadingTests {
    @Test("The full example says what it says")
    func fullExample() throws {
        let policy = try Policy.parse(Examples.full, file: "policy.yaml")
        #expect(policy.scenario == .negotiationDiscovery)
        #expect(policy.interfaces == ["eth0", "wlan0.5"])
        #expect(
            policy.exemptions == [
                Exemption(remote: try prefix("192.0.2.0/24")),
                Exemption(proto: IPProtocol.tcp, localPorts: [22...22]),
                Exemption(proto: IPProtocol.udp, remotePorts: [53...53, 5000...5010], direction: .outbound),
            ])
        #expect(policy.exemptsICMP && policy.exemptsDHCP)
        #expect(policy.keying == Policy.Keying())
        #expect(policy.preSharedKeys.map(\.file) == ["/etc/ndbpf/psk", "/etc/ndbpf/psk-default"])
        #expect(policy.discovery == Policy.Discovery())
        #expect(policy.engine.kind == .auto && policy.engine.encapsulation == .udp && policy.engine.aead == .auto)
        #expect(policy.metrics.listen == Endpoint(address("127.0.0.1"), 9466))
    }

    @Test("The defaults are what the full example writes out")
    func smallest() throws {
        let policy = try Policy.parse(Examples.smallest, file: "policy.yaml")
        #expect(policy.keying == Policy.Keying())
        #expect(policy.discovery == Policy.Discovery())
        #expect(policy.engine == Policy.Engine())
        #expect(policy.metrics.listen == Endpoint(address("127.0.0.1"), 9466))
        #expect(try Policy.parse(Examples.smallest + "\nmetrics: { listen: none }\n", file: "policy.yaml").metrics.listen == nil)
        #expect(policy.interfaces.isEmpty && policy.exemptions.isEmpty)
    }

    @Test("Boundary and secure examples parse")
    func others() throws {
        let boundary = try Policy.parse(Examples.boundary, file: "b.yaml")
        #expect(boundary.scenario == .boundary)
        #expect(!boundary.exemptsICMP && !boundary.exemptsDHCP)
        #expect(boundary.engine.encapsulation == .native)
        #expect(boundary.keying.quickMode == [.aesGCM16(keyBits: 256)])
        #expect(boundary.keying.quickModeGroup == .ecp384)
        #expect(boundary.metrics.listen == Endpoint(address("::1"), 9466))
        let secure = try Policy.parse(Examples.secure, file: "s.yaml")
        #expect(secure.scenario == .secure)
        #expect(secure.discovery.clearGrace == .seconds(0))
        #expect(secure.exemptions.first?.direction == .inbound)
    }

    @Test("The longest prefix chooses the pre-shared key, and any is the last resort")
    func longestPrefix() throws {
        let policy = Examples.policy(.boundary) {
            $0.preSharedKeys = [
                PreSharedKeyReference(remote: nil, file: "/any"),
                PreSharedKeyReference(remote: IPPrefix("10.0.0.0/8"), file: "/8"),
                PreSharedKeyReference(remote: IPPrefix("10.1.0.0/16"), file: "/16"),
            ]
        }
        #expect(policy.preSharedKey(for: address("10.1.2.3"))?.file == "/16")
        #expect(policy.preSharedKey(for: address("10.2.2.3"))?.file == "/8")
        #expect(policy.preSharedKey(for: address("2001:db8::1"))?.file == "/any")
    }

    @Test("Every proposal that a policy may name reads back from its name")
    func proposalNames() {
        #expect(MainModeProposal.all.count == 27)
        for proposal in MainModeProposal.all { #expect(MainModeProposal(proposal.description) == proposal) }
        for suite in ESPSuite.all { #expect(ESPSuite(suite.description) == suite) }
        #expect(MainModeProposal("des-md5-modp768") == nil)
    }

    @Test("Random damage to a policy gives errors or a policy, never a trap")
    func damage() {
        var random = Seeded(7)
        let original = Array(Examples.full.utf8)
        let marks: [UInt8] = Array("[]{}:,-#&*!|>'\"%@` \n\t0".utf8) + [0, 0xff, 0xc3]
        for _ in 0..<1500 {
            var bytes = original
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[at] = marks[Int.random(in: 0..<marks.count, using: &random)]
                case 1: bytes.remove(at: at)
                default: bytes.insert(marks[Int.random(in: 0..<marks.count, using: &random)], at: at)
                }
            }
            do {
                _ = try Policy.parse(String(decoding: bytes, as: UTF8.self), file: "x").compiled()
            } catch let errors as PolicyErrors {
                #expect(!errors.errors.isEmpty && errors.errors.allSatisfy { $0.code.hasPrefix("policy.") })
            } catch {}
        }
    }

    @Test("Nesting, anchors, size and garbage are refused before they cost anything")
    func bombs() {
        func codes(_ text: String) -> [String] {
            do {
                _ = try Policy.parse(text, file: "x")
                return []
            } catch {
                return error.errors.map(\.code)
            }
        }
        #expect(codes(String(repeating: "[", count: 400_000)) == ["policy.too-deep"])
        #expect(codes(String(repeating: "{a: ", count: 100_000)) == ["policy.too-deep"])
        #expect(codes(String(repeating: "- ", count: 100_000)) == ["policy.too-deep"])
        #expect(codes(String(repeating: " ", count: 300) + "a: 1") == ["policy.too-deep"])
        let levels = (1...20).map { "a\($0): &a\($0) [\(String(repeating: "*a\($0 - 1),", count: 9))]" }
        #expect(codes("a0: &a0 x\n" + levels.joined(separator: "\n")) == ["policy.anchor"])
        #expect(codes("? [*a, *a]\n: 1") == ["policy.anchor"])
        #expect(codes(String(repeating: "#", count: 8 << 20 + 1)) == ["policy.too-large"])
        let many = "exempt: [" + String(repeating: "1,", count: 400_001) + "]"
        #expect(codes(many) == ["policy.too-large"])
        #expect(codes("") == ["policy.empty"])
        #expect(codes("# only a comment\n") == ["policy.empty"])
        #expect(codes("a: 1\n---\nb: 2") == ["policy.syntax"])
        #expect(codes("\u{1}") == ["policy.syntax"])
    }

    @Test("A comment may hold anchors' characters")
    func comments() throws {
        _ = try Policy.parse("# R&D *hosts*\n" + Examples.smallest + "icmp: exempt # see *this* &that\n", file: "x")
    }

    @Test("A file that isn't there, isn't a file, or is too large is named")
    func files() throws {
        func error(_ path: String) -> NDError? {
            do {
                _ = try Policy.load(path: path)
                return nil
            } catch {
                return error.errors.first
            }
        }
        #expect(error("/nonexistent/policy.yaml")?.code == "policy.unreadable")
        #expect(error("/nonexistent/policy.yaml")?.context == "/nonexistent/policy.yaml")
        #expect(error("/proc/self")?.code == "policy.not-a-file")
        #expect(error("/dev/zero")?.code == "policy.not-a-file")
    }
}
