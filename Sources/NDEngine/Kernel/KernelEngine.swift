import CESP
import CNDABI
import CNetlink
import Foundation
import Glibc
import NDCore
import Synchronization

public struct KernelEngineConfiguration: Sendable {
    /// 1 to 15 bytes.
    public var deviceName = "nd0"
    public var mtu = 1500
    public var natTraversalPort: UInt16 = 4500
    public var reassembly = ReassemblyLimits()

    public init() {}
}

/// ESP by the kernel, behind an XFRM interface: two wildcard policies send whatever enters it
/// through ESP, by one SA for each peer. All that is ndbpf's carries the interface's id; nothing else
/// is ever listed, changed or removed.
public final class KernelEngine: Engine {
    /// "nd": what this project's policies and SAs ask for each other by.
    static let reqid: UInt32 = 0x6e64_0001
    /// SAs outside the interface, for whole datagrams that were fragments.
    static let fragmentReqid: UInt32 = 0x6e64_0002
    /// How long an SA that nobody renews outlives its negotiated time: the keying module ends it
    /// first, the kernel only where no daemon lives.
    static let graceSeconds: UInt64 = 60

    struct Installed {
        var inbound: SecurityAssociation
        /// With its keys until it is in use.
        var outbound: SecurityAssociation
        var outboundInKernel = false
        var installedAt = Instant.now()
    }

    struct State {
        /// By inbound SPI.
        var installed: [UInt32: Installed] = [:]
        var byOutbound: [PeerKey: [UInt32: UInt32]] = [:]
        var ended = EngineStatistics()
        var listener: KernelListener?
        var fragments: FragmentPath?
        var events: (any EngineEvents)?
    }

    public let kind = EngineKind.kernel
    public let cryptography = "xfrm"
    let configuration: KernelEngineConfiguration
    let xfrm: any NetlinkTransport
    let route: any NetlinkTransport
    let interfaceID: UInt32
    private let state = Mutex(State())
    private let errors: XFRMErrorCounters

    public convenience init(_ configuration: KernelEngineConfiguration) throws {
        do {
            try self.init(
                configuration, xfrm: NetlinkSocket(NETLINK_XFRM), route: NetlinkSocket(NETLINK_ROUTE))
        } catch let error as NetlinkError {
            throw NDError(
                "engine.netlink", "can't open a netlink socket for XFRM: \(error)",
                hint: error.code == EPROTONOSUPPORT ? "this kernel has no XFRM; use `engine: { kind: user }`" : "root is needed")
        }
    }

    init(_ configuration: KernelEngineConfiguration, xfrm: any NetlinkTransport, route: any NetlinkTransport) {
        self.configuration = configuration
        self.xfrm = xfrm
        self.route = route
        interfaceID = Self.interfaceID(configuration.deviceName)
        errors = XFRMErrorCounters()
    }

    /// The id that ties device, policies and SAs together: "nd" and a hash of the device's name
    /// (FNV-1a), so that a new daemon finds what an earlier one made.
    static func interfaceID(_ device: String) -> UInt32 {
        let hash = device.utf8.reduce(UInt32(0x811c_9dc5)) { ($0 ^ UInt32($1)) &* 0x0100_0193 }
        return 0x6e64_0000 | (hash ^ hash >> 16) & 0xffff
    }

    // MARK: the device

    public func start(events: any EngineEvents) throws -> EngineLink {
        let name = configuration.deviceName
        guard (1...14).contains(name.utf8.count) else {
            throw NDError("engine.device-name", "'\(name)' can't be the device's name", hint: "1 to 14 bytes")
        }
        let index = try makeDevice(name)
        let listener: KernelListener
        let fragments: FragmentPath
        do {
            try makePolicies()
            listener = try KernelListener(port: configuration.natTraversalPort, engine: self, events: events)
            fragments = try FragmentPath(
                device: name + "f", limits: configuration.reassembly, reqid: Self.fragmentReqid, events: events)
        } catch {
            try? removePolicies()
            try? route.request(XFRMLinkCodec.delete(index: index))
            throw error
        }
        listener.start()
        fragments.start()
        state.withLock {
            $0.listener = listener
            $0.fragments = fragments
            $0.events = events
        }
        var link = EngineLink(name: name, ifindex: UInt32(index), mtu: configuration.mtu)
        link.fragments = fragments.ifindex
        return link
    }

    public func restore() throws -> EngineLink {
        let name = configuration.deviceName
        let index = try makeDevice(name)
        _ = restorePolicies()
        let (old, events) = state.withLock { ($0.fragments, $0.events) }
        var path = old
        if let old, if_nametoindex(name + "f") == old.ifindex {
            let up = nd_link_up(name + "f", 65_535, 1000)
            guard up == 0 else {
                throw NDError("engine.link", "can't bring \(name)f up: \(String(cString: strerror(-up)))")
            }
        } else if let events {
            let fresh = try FragmentPath(
                device: name + "f", limits: configuration.reassembly, reqid: Self.fragmentReqid, events: events)
            fresh.start()
            let ready = state.withLock { state -> [PeerKey] in
                state.fragments = fresh
                return state.installed.values.filter { $0.outboundInKernel }.map(\.inbound.peer).filter(\.isForFragments)
            }
            for peer in ready { fresh.ready(peer) }
            path = fresh
            old?.stop()
        }
        var link = EngineLink(name: name, ifindex: UInt32(index), mtu: configuration.mtu)
        link.fragments = path?.ifindex ?? 0
        return link
    }

    /// The program at the sockets of all namespaces knows decrypted packets by nd0's index, so that is none that a
    /// kernel gives in another namespace (it counts from 1 in each).
    private static let indexes: ClosedRange<Int32> = 1 << 24...Int32.max - 1

    private func makeDevice(_ name: String) throws -> Int32 {
        if let found = link(name) {
            guard found.kind == "xfrm", found.interfaceID == interfaceID else {
                throw NDError(
                    "engine.device", "there is a device \(name) already that is no XFRM interface of ndbpf (\(found.kind ?? "hardware"))",
                    hint: "ndbpf unload takes away what an earlier run with the user engine left; or choose another name: --device")
            }
            try configureDevice(name)
            return found.index
        }
        do {
            try route.request(
                XFRMLinkCodec.create(
                    name: name, interfaceID: interfaceID, mtu: UInt32(clamping: configuration.mtu),
                    index: Int32.random(in: Self.indexes)))
        } catch let error as NetlinkError {
            throw NDError(
                "engine.device", "can't create the XFRM interface \(name): \(error)",
                hint: error.code == EOPNOTSUPP
                    ? "the kernel has no XFRM interfaces: modprobe xfrm_interface, or use `engine: { kind: user }`"
                    : error.code == EEXIST ? "another XFRM interface has the id \(interfaceID)" : "CAP_NET_ADMIN is needed")
        }
        guard let made = link(name) else {
            throw NDError("engine.device", "the XFRM interface \(name) went away as soon as it was made")
        }
        do {
            try configureDevice(name)
        } catch {
            try? route.request(XFRMLinkCodec.delete(index: made.index))
            throw error
        }
        return made.index
    }

    private func configureDevice(_ name: String) throws {
        if access("/proc/sys/net/ipv6/conf/\(name)", F_OK) == 0 {
            // No address of its own, or it would answer and announce.
            for (key, value) in [
                ("disable_ipv6", "0"), ("addr_gen_mode", "1"), ("accept_ra", "0"), ("autoconf", "0"),
                ("router_solicitations", "0"),
            ] { try Sysctl.set("ipv6/conf/\(name)/\(key)", value) }
        }
        let up = nd_link_up(name, Int32(configuration.mtu), 1000)
        guard up == 0 else {
            throw NDError("engine.link", "can't bring \(name) up: \(String(cString: strerror(-up)))")
        }
    }

    private func link(_ name: String) -> LinkDescription? {
        var found: LinkDescription?
        try? route.request(XFRMLinkCodec.get(name: name)) { found = XFRMLinkCodec.decode($0) ?? found }
        return found
    }

    // MARK: policies

    private func makePolicies() throws {
        for family in [AF_INET, AF_INET6] {
            do {
                try xfrm.request(
                    XFRMPolicyCodec.create(family: family, reqid: Self.reqid, interfaceID: interfaceID))
            } catch let error as NetlinkError {
                if family == AF_INET6, error.code == EAFNOSUPPORT { continue }
                throw NDError("engine.policy", "can't make the XFRM policy of \(configuration.deviceName): \(error)")
            }
        }
    }

    func policies() -> [XFRMPolicy] {
        var found: [XFRMPolicy] = []
        try? xfrm.request(XFRMPolicyCodec.dump()) { message in
            if let policy = XFRMPolicyCodec.decode(message), policy.interfaceID == interfaceID { found.append(policy) }
        }
        return found
    }

    /// Of this engine's interface; two, one for each family.
    public var policyCount: Int { policies().count }

    /// After somebody deleted or flushed policies. Without them nd0 drops everything.
    func restorePolicies() -> Bool {
        guard policies().count < 2 else { return false }
        return (try? makePolicies()) != nil
    }

    private func removePolicies() throws {
        for policy in policies() { try xfrm.request(XFRMPolicyCodec.delete(policy)) }
    }

    // MARK: SAs

    public func install(_ pair: SecurityAssociationPair) throws {
        for sa in [pair.inbound, pair.outbound] where sa.keymat.count != sa.suite.keymatBytes {
            throw NDError("engine.keymat", "\(sa.suite) needs \(sa.suite.keymatBytes) bytes of keying material")
        }
        try create(pair.inbound, interfaceID: interfaceID, reqid: Self.reqid)
        state.withLock {
            $0.installed[pair.inbound.spi] = Installed(inbound: pair.inbound, outbound: pair.outbound)
            $0.byOutbound[pair.outbound.peer, default: [:]][pair.outbound.spi] = pair.inbound.spi
        }
    }

    public func activateOutbound(peer: PeerKey, spi: UInt32) throws {
        let pending = state.withLock { state -> SecurityAssociation? in
            guard let inbound = state.byOutbound[peer]?[spi], let entry = state.installed[inbound],
                !entry.outboundInKernel
            else { return nil }
            return entry.outbound
        }
        guard let pending else { return }
        // The kernel takes the newest of several that fit.
        if peer.isForFragments {
            try create(pending, interfaceID: 0, reqid: Self.fragmentReqid)
        } else {
            try create(pending, interfaceID: interfaceID, reqid: Self.reqid)
        }
        let fragments = state.withLock { state -> FragmentPath? in
            guard let inbound = state.byOutbound[peer]?[spi], var entry = state.installed[inbound] else { return nil }
            entry.outboundInKernel = true
            // The kernel has the keys now; no copy stays.
            entry.outbound.keymat = SecretBytes([])
            entry.inbound.keymat = SecretBytes([])
            state.installed[inbound] = entry
            return state.fragments
        }
        if peer.isForFragments { fragments?.ready(peer) }
    }

    private func create(_ sa: SecurityAssociation, interfaceID: UInt32, reqid: UInt32) throws {
        var lifetime = XFRMLifetime()
        lifetime.hardSeconds = sa.lifetime.map { UInt64(clamping: $0.nanoseconds / 1_000_000_000) &+ Self.graceSeconds }
        if let kilobytes = sa.lifetimeKilobytes {
            let bytes = kilobytes.multipliedReportingOverflow(by: 1024)
            lifetime.hardBytes = bytes.overflow ? nil : bytes.partialValue
            lifetime.softBytes = lifetime.hardBytes.map { $0 / 10 * 9 }
        }
        // RFC 4303 §3.3.3: 32-bit numbers must not cycle; the kernel stops there, we renew before.
        if sa.direction == .outbound, !sa.extendedSequenceNumbers { lifetime.softPackets = 3 << 30 }
        do {
            try xfrm.request(
                XFRMStateCodec.create(sa, reqid: reqid, interfaceID: interfaceID, lifetime: lifetime))
        } catch let error as NetlinkError {
            throw NDError(
                "engine.sa", "the kernel refuses the \(sa.direction.rawValue) SA with \(sa.peer.remote): \(error)",
                hint: error.code == ENOSYS || error.code == ENOENT
                    ? "the kernel lacks the algorithm of \(sa.suite), or its module" : nil)
        }
    }

    public func remove(peer: PeerKey, inboundSPI: UInt32, outboundSPI: UInt32) {
        // Out of the table first: the kernel's notice of the deletion is then nobody's loss.
        let entry = state.withLock { state -> Installed? in
            state.byOutbound[peer]?[outboundSPI] = nil
            if state.byOutbound[peer]?.isEmpty == true { state.byOutbound[peer] = nil }
            return state.installed.removeValue(forKey: inboundSPI)
        }
        delete(destination: peer.remote, spi: outboundSPI, outbound: true)
        delete(destination: peer.local, spi: inboundSPI, outbound: false)
        if entry?.outboundInKernel == true, peer.isForFragments {
            state.withLock { $0.fragments }?.gone(peer)
        }
    }

    /// What the SA carried is added to the sums, which must never fall.
    private func delete(destination: IPAddress, spi: UInt32, outbound: Bool) {
        var last: XFRMState?
        try? xfrm.request(XFRMStateCodec.get(destination: destination, spi: spi)) { last = XFRMStateCodec.decode($0) }
        // Not one of ours: an SPI is only unique for a destination, and others choose theirs too.
        guard let last, isOurs(last) else { return }
        do {
            try xfrm.request(XFRMStateCodec.delete(destination: destination, spi: spi))
        } catch { return }
        state.withLock { state in
            if outbound {
                state.ended.outboundPackets &+= last.packets
                state.ended.outboundBytes &+= last.bytes
            } else {
                state.ended.inboundPackets &+= last.packets
                state.ended.inboundBytes &+= last.bytes
            }
        }
    }

    private func isOurs(_ state: XFRMState) -> Bool {
        state.interfaceID == interfaceID || (state.interfaceID == 0 && state.reqid == Self.fragmentReqid)
    }

    func states() -> [XFRMState] {
        var found: [XFRMState] = []
        try? xfrm.request(XFRMStateCodec.dump()) { message in
            // Larval SAs (an acquire waits) have no SPI.
            if let state = XFRMStateCodec.decode(message), isOurs(state), state.spi != 0 { found.append(state) }
        }
        return found
    }

    /// Whose inbound (or outbound) SA that is; nil: nobody's here.
    func owner(destination: IPAddress, spi: UInt32) -> PeerKey? {
        state.withLock { state in
            if let entry = state.installed[spi], entry.inbound.peer.local == destination { return entry.inbound.peer }
            return state.byOutbound.first { $0.key.remote == destination && $0.value[spi] != nil }?.key
        }
    }

    func owned() -> [(peer: PeerKey, inboundSPI: UInt32)] {
        state.withLock { $0.installed.map { ($0.value.inbound.peer, $0.key) } }
    }

    // MARK: what an earlier daemon left

    public func adopted() -> [SurvivingPair] {
        let now = UInt64(clamping: time(nil))
        var inbound: [PeerKey: [XFRMState]] = [:]
        var outbound: [PeerKey: [XFRMState]] = [:]
        let locals = Set(LocalEndpoints.addresses())
        for state in states() {
            if locals.contains(state.destination) {
                inbound[PeerKey(local: state.destination, remote: state.source), default: []].append(state)
            } else {
                var peer = PeerKey(local: state.source, remote: state.destination)
                if state.interfaceID == 0 { peer = peer.fragments }
                outbound[peer, default: []].append(state)
            }
        }
        var result: [SurvivingPair] = []
        var orphans: [XFRMState] = []
        for (peer, states) in outbound where !peer.isForFragments {
            var receiving = (inbound.removeValue(forKey: peer) ?? []).sorted { ($0.added, $0.spi) > ($1.added, $1.spi) }
            for sending in states.sorted(by: { ($0.added, $0.spi) > ($1.added, $1.spi) }) {
                guard let suite = sending.suite, !receiving.isEmpty else {
                    orphans.append(sending)
                    continue
                }
                let twin = receiving.removeFirst()
                let age = Span.seconds(Double(now &- min(now, sending.added)))
                result.append(
                    SurvivingPair(
                        peer: peer, inboundSPI: twin.spi, outboundSPI: sending.spi, suite: suite,
                        encapsulation: sending.encapsulation.map {
                            .udp(localPort: $0.source, remotePort: $0.destination)
                        } ?? .native,
                        extendedSequenceNumbers: sending.extendedSequenceNumbers, age: age,
                        remaining: sending.hardSeconds.map {
                            .seconds(Double($0 &- min($0, Self.graceSeconds)) - age.seconds)
                        }))
            }
        }
        // An inbound SA without a twin stays until the kernel ends it: the peer may be sending on it.
        for (peer, states) in outbound where peer.isForFragments { orphans += states }
        for orphan in orphans {
            try? xfrm.request(XFRMStateCodec.delete(destination: orphan.destination, spi: orphan.spi))
        }
        state.withLock { state in
            for pair in result {
                func sa(_ direction: SecurityAssociation.Direction, _ spi: UInt32) -> SecurityAssociation {
                    SecurityAssociation(
                        direction: direction, spi: spi, peer: pair.peer, suite: pair.suite, keymat: SecretBytes([]),
                        encapsulation: pair.encapsulation, extendedSequenceNumbers: pair.extendedSequenceNumbers)
                }
                state.installed[pair.inboundSPI] = Installed(
                    inbound: sa(.inbound, pair.inboundSPI), outbound: sa(.outbound, pair.outboundSPI),
                    outboundInKernel: true)
                state.byOutbound[pair.peer, default: [:]][pair.outboundSPI] = pair.inboundSPI
            }
        }
        return result
    }

    // MARK: reports

    public func statistics() -> EngineStatistics {
        var sum = state.withLock { $0.ended }
        let outbound = state.withLock { state in Set(state.byOutbound.values.flatMap(\.keys)) }
        for state in states() {
            if outbound.contains(state.spi), !self.isInbound(state) {
                sum.outboundPackets &+= state.packets
                sum.outboundBytes &+= state.bytes
            } else {
                sum.inboundPackets &+= state.packets
                sum.inboundBytes &+= state.bytes
            }
        }
        if let listener = state.withLock({ $0.listener }) {
            sum.ikeDatagrams = listener.ikeDatagrams.load(ordering: .relaxed)
        }
        errors.add(to: &sum)
        if let fragments = state.withLock({ $0.fragments }) { fragments.add(to: &sum) }
        return sum
    }

    private func isInbound(_ found: XFRMState) -> Bool {
        state.withLock { $0.installed[found.spi].map { $0.inbound.peer.local == found.destination } ?? false }
    }

    public func securityAssociations() -> [SAStatus] {
        let wall = UInt64(clamping: time(nil))
        let now = Instant.now()
        var result: [SAStatus] = []
        let (installed, byOutbound) = state.withLock { ($0.installed, $0.byOutbound) }
        for found in states() {
            let inbound = installed[found.spi].map { $0.inbound.peer.local == found.destination } ?? false
            var peer: PeerKey
            if inbound {
                peer = installed[found.spi]?.inbound.peer ?? PeerKey(local: found.destination, remote: found.source)
            } else {
                peer = PeerKey(local: found.source, remote: found.destination)
                if found.interfaceID == 0 { peer = peer.fragments }
                if byOutbound[peer]?[found.spi] == nil { continue }
            }
            guard let suite = found.suite else { continue }
            result.append(
                SAStatus(
                    direction: inbound ? .inbound : .outbound, spi: found.spi, peer: peer, suite: suite,
                    encapsulation: found.encapsulation.map {
                        inbound
                            ? .udp(localPort: $0.destination, remotePort: $0.source)
                            : .udp(localPort: $0.source, remotePort: $0.destination)
                    } ?? .native,
                    extendedSequenceNumbers: found.extendedSequenceNumbers, packets: found.packets, bytes: found.bytes,
                    sequence: found.sequence,
                    installedAt: now.advanced(by: .seconds(-Double(wall &- min(wall, found.added)))), active: true))
        }
        for entry in installed.values where !entry.outboundInKernel {
            let sa = entry.outbound
            result.append(
                SAStatus(
                    direction: .outbound, spi: sa.spi, peer: sa.peer, suite: sa.suite, encapsulation: sa.encapsulation,
                    extendedSequenceNumbers: sa.extendedSequenceNumbers, packets: 0, bytes: 0, sequence: 0,
                    installedAt: entry.installedAt, active: false))
        }
        return result
    }

    public var ikeDescriptors: [Int32] { state.withLock { $0.listener }?.ikeDescriptors ?? [] }

    public func sendIKE(_ datagram: [UInt8], from: Endpoint, to: Endpoint) {
        state.withLock { $0.listener }?.sendIKE(datagram, from: from, to: to)
    }

    // MARK: the end

    /// SAs, policies and the device stay with `keepDevice`; established protection goes on without a
    /// daemon.
    public func stop(keepDevice: Bool) {
        let (listener, fragments) = state.withLock { state -> (KernelListener?, FragmentPath?) in
            defer { (state.listener, state.fragments) = (nil, nil) }
            return (state.listener, state.fragments)
        }
        listener?.stop()
        fragments?.stop()
        if !keepDevice { Self.removeAll(configuration.deviceName) }
    }

    /// Takes away the device and all SAs and policies that belong to it; false when there was none.
    @discardableResult
    public static func removeAll(_ device: String) -> Bool {
        var configuration = KernelEngineConfiguration()
        configuration.deviceName = device
        guard let engine = try? KernelEngine(configuration), let link = engine.link(device), link.kind == "xfrm",
            link.interfaceID == engine.interfaceID
        else { return false }
        // The device first: what its policies would have sent in ESP must not meet their absence.
        try? engine.route.request(XFRMLinkCodec.delete(index: link.index))
        try? engine.removePolicies()
        for state in engine.states() {
            try? engine.xfrm.request(XFRMStateCodec.delete(destination: state.destination, spi: state.spi))
        }
        return true
    }
}

enum Sysctl {
    static func set(_ key: String, _ value: String) throws {
        let path = "/proc/sys/net/\(key)"
        let fd = open(path, O_WRONLY | O_CLOEXEC)
        defer { if fd >= 0 { close(fd) } }
        guard fd >= 0, write(fd, value, value.utf8.count) == value.utf8.count else {
            throw NDError(
                "engine.sysctl", "can't write \(path): \(String(cString: strerror(errno)))",
                hint: "mount /proc/sys writable, or set net.\(key.replacingOccurrences(of: "/", with: "."))=\(value) yourself")
        }
    }
}
