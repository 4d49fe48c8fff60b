import CNetlink
import Glibc
import NDCore

/// One XFRM policy, as far as ndbpf looks at it.
struct XFRMPolicy: Hashable, Sendable {
    var family: UInt16
    var direction: UInt8
    var index: UInt32
    var interfaceID: UInt32
}

/// Messages about policies: one for each family that sends whatever enters the interface through
/// ESP, whoever it is for.
enum XFRMPolicyCodec {
    static func create(family: Int32, reqid: UInt32, interfaceID: UInt32) -> NetlinkRequest {
        var info = xfrm_userpolicy_info()
        info.sel.family = UInt16(family)
        info.dir = UInt8(XFRM_POLICY_OUT)
        info.action = UInt8(XFRM_POLICY_ALLOW)
        info.lft.soft_byte_limit = .max
        info.lft.hard_byte_limit = .max
        info.lft.soft_packet_limit = .max
        info.lft.hard_packet_limit = .max
        var template = xfrm_user_tmpl()
        template.id.proto = IPProtocol.esp
        template.family = UInt16(family)
        template.reqid = reqid
        template.mode = UInt8(XFRM_MODE_TRANSPORT)
        // optional stays 0: level required. All algorithms.
        template.aalgos = .max
        template.ealgos = .max
        template.calgos = .max
        // UPDPOLICY makes or replaces.
        var request = NetlinkRequest(XFRM_MSG_UPDPOLICY, flags: NLM_F_ACK)
        request.append(info)
        request.attribute(XFRMA_TMPL.rawValue, value: template)
        request.attribute(XFRMA_IF_ID.rawValue, value: interfaceID)
        return request
    }

    static func delete(_ policy: XFRMPolicy) -> NetlinkRequest {
        var id = xfrm_userpolicy_id()
        id.index = policy.index
        id.dir = policy.direction
        id.sel.family = policy.family
        var request = NetlinkRequest(XFRM_MSG_DELPOLICY, flags: NLM_F_ACK)
        request.append(id)
        request.attribute(XFRMA_IF_ID.rawValue, value: policy.interfaceID)
        return request
    }

    static func dump() -> NetlinkRequest { NetlinkRequest(XFRM_MSG_GETPOLICY, flags: NLM_F_DUMP) }

    static func decode(_ message: NetlinkMessage) -> XFRMPolicy? {
        guard let info: xfrm_userpolicy_info = message.payload.structure() else { return nil }
        let attributes = message.attributes(skipping: MemoryLayout<xfrm_userpolicy_info>.size)
        return XFRMPolicy(
            family: info.sel.family, direction: info.dir, index: info.index,
            interfaceID: attributes[UInt16(XFRMA_IF_ID.rawValue)]?.structure() ?? 0)
    }
}
