import NDCore
import NDDatapath
import Testing

@Suite("What each interface is")
struct InterfaceRolesTests {
    private func roles(_ patterns: String...) -> InterfaceRoles { InterfaceRoles(patterns.compactMap { InterfacePattern($0) }) }

    private func interface(_ index: UInt32, _ name: String, _ change: (inout NetworkInterface) -> Void = { _ in }) -> NetworkInterface {
        var interface = NetworkInterface(index: index, name: name)
        change(&interface)
        return interface
    }

    @Test("A name, a pattern, all, and the default route protect; everything else has a guard")
    func patterns() {
        let route = interface(4, "wwan0") { $0.hasDefaultRoute = true }
        let named = interface(5, "enp3s0") { $0.otherNames = ["lan0"] }
        #expect(roles("eth0").role(of: interface(2, "eth0")) == .protected)
        #expect(roles("eth0").role(of: interface(2, "eth01")) == .guarded)
        #expect(roles("eth*").role(of: interface(2, "eth01")) == .protected)
        #expect(roles("eth*").role(of: interface(3, "veth1")) == .guarded)
        #expect(roles("e?h*0").role(of: interface(3, "eth10")) == .protected)
        #expect(roles("all").role(of: interface(3, "docker0")) == .protected)
        #expect(roles("default-route").role(of: route) == .protected)
        #expect(roles("default-route").role(of: named) == .guarded)
        #expect(roles("lan0").role(of: named) == .protected)
    }

    @Test("The loopback and ndbpf's own devices are never guarded, whatever a policy says; their names give nothing")
    func devices() {
        var roles = roles("all")
        roles.devices = [1 << 24]
        #expect(roles.role(of: interface(1, "lo") { $0.isLoopback = true }) == .device)
        #expect(roles.role(of: interface(1 << 24, "nd0")) == .device)
        #expect(roles.role(of: interface(9, "nd0")) == .protected)
    }

    @Test("A protected interface stays so under another name and without its route")
    func standing() {
        var roles = roles("eth0", "default-route")
        roles.standing = [2]
        #expect(roles.role(of: interface(2, "renamed")) == .protected)
        #expect(roles.role(of: interface(3, "eth0")) == .protected)
        #expect(roles.role(of: interface(4, "eth1")) == .guarded)
    }

    @Test("Patterns that nothing answers to are told")
    func unmatched() {
        let present = [interface(1, "lo") { $0.isLoopback = true }, interface(2, "eth0")]
        #expect(roles("eth0", "wlan*", "default-route", "lo").unmatched(present).map(\.description) == ["wlan*", "default-route", "lo"])
    }

    @Test("What can be no name is no pattern", arguments: ["", ".", "..", "a/b", "a b", "a:b", "averyveryverylonginterface", "a\u{7f}"])
    func malformed(text: String) {
        #expect(InterfacePattern(text) == nil)
    }

    @Test("A pattern of many stars takes no time")
    func stars() {
        let pattern = InterfacePattern(String(repeating: "a*", count: 31))
        #expect(pattern?.matches(String(repeating: "a", count: 30) + "b") == false)
    }
}
