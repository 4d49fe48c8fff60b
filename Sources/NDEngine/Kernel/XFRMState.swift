import CNetlink
import Glibc
import NDCore

/// Limits of an SA that the kernel enforces; nil: none.
struct XFRMLifetime: Hashable, Sendable {
    var softBytes: UInt64?
    var hardBytes: UInt64?
    var softPackets: UInt64?
    var hardSeconds: UInt64?
}

/// One SA as the kernel holds it, without its keys.
struct XFRMState: Hashable, Sendable {
    var source: IPAddress
    var destination: IPAddress
    /// Host order.
    var spi: UInt32
    var reqid: UInt32
    var interfaceID: UInt32
    var suite: ESPSuite?
    var encapsulation: Ports?
    var extendedSequenceNumbers: Bool
    var packets: UInt64
    var bytes: UInt64
    /// Seconds since 1970; 0: not used yet.
    var added: UInt64
    var used: UInt64
    var hardSeconds: UInt64?
    /// Last sent, or highest received.
    var sequence: UInt64

    struct Ports: Hashable, Sendable {
        var source: UInt16
        var destination: UInt16
    }
}

extension xfrm_address_t {
    init(_ address: IPAddress) {
        self.init()
        let bytes = address.bytes
        withUnsafeMutableBytes(of: &self) { $0.copyBytes(from: bytes) }
    }

    func address(_ family: UInt16) -> IPAddress? {
        withUnsafeBytes(of: self) { IPAddress(bytes: $0.prefix(family == UInt16(AF_INET) ? 4 : 16)) }
    }
}

extension IPAddress {
    var family: UInt16 { UInt16(isIPv4 ? AF_INET : AF_INET6) }
}

/// Messages about SAs (XFRM_MSG_NEWSA and its kin, linux/xfrm.h).
enum XFRMStateCodec {
    /// ESN windows of the kernel are at most this wide (XFRMA_REPLAY_ESN_MAX).
    static let widestWindow = 4096

    static func create(
        _ sa: SecurityAssociation, reqid: UInt32, interfaceID: UInt32, lifetime: XFRMLifetime
    ) -> NetlinkRequest {
        let inbound = sa.direction == .inbound
        let (from, to) = inbound ? (sa.peer.remote, sa.peer.local) : (sa.peer.local, sa.peer.remote)
        var info = xfrm_usersa_info()
        info.sel.saddr = xfrm_address_t(from)
        info.sel.daddr = xfrm_address_t(to)
        info.sel.family = to.family
        info.sel.prefixlen_s = from.isIPv4 ? 32 : 128
        info.sel.prefixlen_d = to.isIPv4 ? 32 : 128
        info.id.daddr = xfrm_address_t(to)
        info.id.spi = sa.spi.bigEndian
        info.id.proto = IPProtocol.esp
        info.saddr = xfrm_address_t(from)
        info.family = to.family
        info.mode = UInt8(XFRM_MODE_TRANSPORT)
        info.reqid = reqid
        info.lft = limits(lifetime)
        if sa.extendedSequenceNumbers { info.flags |= UInt8(XFRM_STATE_ESN) }
        var request = NetlinkRequest(XFRM_MSG_NEWSA, flags: NLM_F_ACK)
        request.append(info)
        algorithms(sa, &request)
        if case .udp(let local, let remote) = sa.encapsulation {
            var encapsulation = xfrm_encap_tmpl()
            encapsulation.encap_type = 2  // UDP_ENCAP_ESPINUDP
            encapsulation.encap_sport = (inbound ? remote : local).bigEndian
            encapsulation.encap_dport = (inbound ? local : remote).bigEndian
            request.attribute(XFRMA_ENCAP.rawValue, value: encapsulation)
        }
        // The outbound side keeps no window, but the kernel wants one word of it.
        let window = inbound ? min(max(sa.replayWindow, 32), widestWindow) : 32
        var replay = xfrm_replay_state_esn()
        replay.bmp_len = UInt32(window / 32)
        replay.replay_window = inbound ? UInt32(window) : 1
        // The kernel makes the bitmap itself.
        request.attribute(XFRMA_REPLAY_ESN_VAL.rawValue, value: replay)
        if interfaceID != 0 { request.attribute(XFRMA_IF_ID.rawValue, value: interfaceID) }
        return request
    }

    private static func algorithms(_ sa: SecurityAssociation, _ request: inout NetlinkRequest) {
        let key = sa.suite.encryptionKeyBytes
        func algorithm(_ name: String, _ header: some Any, _ range: Range<Int>) -> [UInt8] {
            var bytes = withUnsafeBytes(of: header) { Array($0) }
            for (index, byte) in name.utf8.prefix(63).enumerated() { bytes[index] = byte }
            sa.keymat.withUnsafeBytes { bytes += $0[range.clamped(to: 0..<$0.count)] }
            return bytes
        }
        var attributes: [(UInt32, [UInt8])] = []
        switch sa.suite {
        case .aesGCM16:
            var header = xfrm_algo_aead()
            header.alg_key_len = UInt32(sa.suite.keymatBytes * 8)
            header.alg_icv_len = UInt32(sa.suite.icvBytes * 8)
            attributes.append((XFRMA_ALG_AEAD.rawValue, algorithm("rfc4106(gcm(aes))", header, 0..<sa.suite.keymatBytes)))
        case .aesCBCHMACSHA256:
            var auth = xfrm_algo_auth()
            auth.alg_key_len = UInt32((sa.suite.keymatBytes - key) * 8)
            auth.alg_trunc_len = UInt32(sa.suite.icvBytes * 8)
            attributes.append((XFRMA_ALG_AUTH_TRUNC.rawValue, algorithm("hmac(sha256)", auth, key..<sa.suite.keymatBytes)))
            var cipher = xfrm_algo()
            cipher.alg_key_len = UInt32(key * 8)
            attributes.append((XFRMA_ALG_CRYPT.rawValue, algorithm("cbc(aes)", cipher, 0..<key)))
        }
        for index in attributes.indices {
            request.attribute(attributes[index].0, attributes[index].1)
            attributes[index].1.withUnsafeMutableBytes { $0.wipe() }
        }
    }

    private static func limits(_ lifetime: XFRMLifetime) -> xfrm_lifetime_cfg {
        var limits = xfrm_lifetime_cfg()
        limits.soft_byte_limit = lifetime.softBytes ?? .max
        limits.hard_byte_limit = lifetime.hardBytes ?? .max
        limits.soft_packet_limit = lifetime.softPackets ?? .max
        limits.hard_packet_limit = .max
        // For times 0 means no limit.
        limits.hard_add_expires_seconds = lifetime.hardSeconds ?? 0
        return limits
    }

    static func delete(destination: IPAddress, spi: UInt32) -> NetlinkRequest {
        var request = NetlinkRequest(XFRM_MSG_DELSA, flags: NLM_F_ACK)
        request.append(identity(destination, spi))
        return request
    }

    static func get(destination: IPAddress, spi: UInt32) -> NetlinkRequest {
        var request = NetlinkRequest(XFRM_MSG_GETSA)
        request.append(identity(destination, spi))
        return request
    }

    /// Without an id: the kernel reads a dump's payload as attributes.
    static func dump() -> NetlinkRequest { NetlinkRequest(XFRM_MSG_GETSA, flags: NLM_F_DUMP) }

    private static func identity(_ destination: IPAddress, _ spi: UInt32) -> xfrm_usersa_id {
        var id = xfrm_usersa_id()
        id.daddr = xfrm_address_t(destination)
        id.spi = spi.bigEndian
        id.family = destination.family
        id.proto = IPProtocol.esp
        return id
    }

    /// nil when it is no ESP transport SA between two addresses.
    /// `fixed`: bytes before the attributes, in messages that say more than the SA.
    static func decode(
        _ message: NetlinkMessage, fixed: Int = MemoryLayout<xfrm_usersa_info>.size
    ) -> XFRMState? {
        let payload = message.payload
        guard let info: xfrm_usersa_info = payload.structure(),
            info.id.proto == IPProtocol.esp, info.mode == UInt8(XFRM_MODE_TRANSPORT),
            let source = info.saddr.address(info.family), let destination = info.id.daddr.address(info.family)
        else { return nil }
        let attributes = message.attributes(skipping: fixed)
        var encapsulation: XFRMState.Ports?
        if let template: xfrm_encap_tmpl = attributes[UInt16(XFRMA_ENCAP.rawValue)]?.structure() {
            encapsulation = XFRMState.Ports(
                source: UInt16(bigEndian: template.encap_sport), destination: UInt16(bigEndian: template.encap_dport))
        }
        var sequence: UInt64 = 0
        if let replay: xfrm_replay_state_esn = attributes[UInt16(XFRMA_REPLAY_ESN_VAL.rawValue)]?.structure() {
            sequence = max(
                UInt64(replay.oseq_hi) << 32 | UInt64(replay.oseq), UInt64(replay.seq_hi) << 32 | UInt64(replay.seq))
        }
        return XFRMState(
            source: source, destination: destination, spi: UInt32(bigEndian: info.id.spi), reqid: info.reqid,
            interfaceID: attributes[UInt16(XFRMA_IF_ID.rawValue)]?.structure() ?? 0,
            suite: suite(attributes), encapsulation: encapsulation,
            extendedSequenceNumbers: info.flags & UInt8(XFRM_STATE_ESN) != 0, packets: info.curlft.packets,
            bytes: info.curlft.bytes, added: info.curlft.add_time, used: info.curlft.use_time,
            hardSeconds: info.lft.hard_add_expires_seconds == 0 ? nil : info.lft.hard_add_expires_seconds,
            sequence: sequence)
    }

    private static func suite(_ attributes: [UInt16: [UInt8]]) -> ESPSuite? {
        func name(_ bytes: [UInt8]) -> String { String(decoding: bytes.prefix(64).prefix { $0 != 0 }, as: UTF8.self) }
        if let aead = attributes[UInt16(XFRMA_ALG_AEAD.rawValue)], name(aead) == "rfc4106(gcm(aes))",
            let header: xfrm_algo_aead = aead.structure(), header.alg_icv_len == 128, header.alg_key_len > 32
        {
            return .aesGCM16(keyBits: Int(header.alg_key_len) - 32)
        }
        if let cipher = attributes[UInt16(XFRMA_ALG_CRYPT.rawValue)], name(cipher) == "cbc(aes)",
            let header: xfrm_algo = cipher.structure(),
            let auth = attributes[UInt16(XFRMA_ALG_AUTH_TRUNC.rawValue)], name(auth) == "hmac(sha256)"
        {
            return .aesCBCHMACSHA256(keyBits: Int(header.alg_key_len))
        }
        return nil
    }
}
