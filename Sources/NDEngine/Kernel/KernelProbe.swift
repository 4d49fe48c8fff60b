import CNetlink
import Glibc
import NDCore

/// Whether this kernel can be the engine: tried, not guessed, with objects that are gone afterwards.
public enum KernelProbe {
    public struct Step: Sendable {
        public var name: String
        /// nil: it works.
        public var failure: String?
        public var advice: String?
    }

    public static func run() -> [Step] {
        guard let xfrm = try? NetlinkSocket(NETLINK_XFRM), let route = try? NetlinkSocket(NETLINK_ROUTE) else {
            return [Step(name: "XFRM", failure: "the kernel has no XFRM", advice: "use the user engine")]
        }
        return run(xfrm: xfrm, route: route)
    }

    static func run(xfrm: any NetlinkTransport, route: any NetlinkTransport) -> [Step] {
        // An id that no instance has: instances hash a device's name, probes count from the pid.
        let id: UInt32 = 0x6e65_0000 | UInt32(getpid()) & 0xffff
        let device = "ndp\(getpid() % 100_000_000)"
        var steps: [Step] = []
        steps.append(
            attempt("XFRM interface", "modprobe xfrm_interface") {
                try route.request(XFRMLinkCodec.create(name: device, interfaceID: id, mtu: 1500))
            })
        if steps.last?.failure == nil {
            var index: Int32 = 0
            try? route.request(XFRMLinkCodec.get(name: device)) { index = XFRMLinkCodec.decode($0)?.index ?? index }
            if index > 0 { try? route.request(XFRMLinkCodec.delete(index: index)) }
        }
        // Addresses that no packet has: TEST-NET-1 and the discard prefix (RFC 5737, RFC 6666).
        let families: [(String, String, String, String)] = [
            ("ESP over IPv4", "192.0.2.1", "192.0.2.2", "modprobe esp4"), ("ESP over IPv6", "100::1", "100::2", "modprobe esp6"),
        ]
        for (name, from, to, advice) in families {
            guard let local = IPAddress(from), let remote = IPAddress(to) else { continue }
            if !local.isIPv4, access("/proc/net/if_inet6", F_OK) != 0 { continue }
            for suite in [ESPSuite.aesGCM16(keyBits: 128), .aesCBCHMACSHA256(keyBits: 256)] {
                let sa = SecurityAssociation(
                    direction: .outbound, spi: 0x6e64_0000 | UInt32(getpid()) & 0xffff,
                    peer: PeerKey(local: local, remote: remote), suite: suite,
                    keymat: SecretBytes([UInt8](repeating: 0x5a, count: suite.keymatBytes)), encapsulation: .native,
                    extendedSequenceNumbers: true)
                steps.append(
                    attempt("\(name), \(suite)", advice) {
                        try xfrm.request(
                            XFRMStateCodec.create(sa, reqid: 0, interfaceID: id, lifetime: XFRMLifetime(hardSeconds: 10)))
                        try xfrm.request(XFRMStateCodec.delete(destination: remote, spi: sa.spi))
                    })
            }
        }
        return steps
    }

    private static func attempt(_ name: String, _ advice: String, _ body: () throws -> Void) -> Step {
        do {
            try body()
            return Step(name: name)
        } catch let error as NetlinkError {
            return Step(
                name: name, failure: "\(error)",
                advice: error.code == EPERM ? "CAP_NET_ADMIN is needed" : "\(advice), or use the user engine")
        } catch {
            return Step(name: name, failure: "\(error)", advice: advice)
        }
    }

    /// What a device of that name is: "xfrm", "tun", …; nil: there is none.
    public static func deviceKind(_ name: String) -> String? {
        guard let route = try? NetlinkSocket(NETLINK_ROUTE) else { return nil }
        var found: LinkDescription?
        try? route.request(XFRMLinkCodec.get(name: name)) { found = XFRMLinkCodec.decode($0) ?? found }
        return found.map { $0.kind ?? "hardware" }
    }
}
