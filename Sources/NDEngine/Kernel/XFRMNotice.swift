import CNetlink
import NDCore

/// What the kernel tells unasked, as far as it concerns an engine (XFRMNLGRP_EXPIRE, _SA, _POLICY,
/// _ACQUIRE).
enum XFRMNotice: Hashable, Sendable {
    case softExpired(XFRMState)
    case hardExpired(XFRMState)
    case removed(destination: IPAddress, spi: UInt32)
    case flushedStates
    case policiesChanged
    /// A packet found no SA.
    case acquire(local: IPAddress, remote: IPAddress, interfaceID: UInt32)

    static let groups: UInt32 =
        [XFRMNLGRP_ACQUIRE, XFRMNLGRP_EXPIRE, XFRMNLGRP_SA, XFRMNLGRP_POLICY].reduce(0) { $0 | 1 << ($1.rawValue - 1) }

    static func decode(_ message: NetlinkMessage) -> XFRMNotice? {
        switch UInt32(message.type) {
        case UInt32(XFRM_MSG_EXPIRE):
            guard let state = XFRMStateCodec.decode(message, fixed: MemoryLayout<xfrm_user_expire>.size) else { return nil }
            let hard = message.payload.dropFirst(MemoryLayout<xfrm_usersa_info>.size).first ?? 0
            return hard != 0 ? .hardExpired(state) : .softExpired(state)
        case UInt32(XFRM_MSG_DELSA):
            guard let id: xfrm_usersa_id = message.payload.structure(), id.proto == IPProtocol.esp,
                let destination = id.daddr.address(id.family)
            else { return nil }
            return .removed(destination: destination, spi: UInt32(bigEndian: id.spi))
        case UInt32(XFRM_MSG_FLUSHSA):
            return .flushedStates
        case UInt32(XFRM_MSG_DELPOLICY), UInt32(XFRM_MSG_FLUSHPOLICY):
            return .policiesChanged
        case UInt32(XFRM_MSG_ACQUIRE):
            guard let acquire: xfrm_user_acquire = message.payload.structure(),
                let local = acquire.saddr.address(acquire.sel.family),
                let remote = acquire.id.daddr.address(acquire.sel.family)
            else { return nil }
            let attributes = message.attributes(skipping: MemoryLayout<xfrm_user_acquire>.size)
            return .acquire(
                local: local, remote: remote,
                interfaceID: attributes[UInt16(XFRMA_IF_ID.rawValue)]?.structure() ?? 0)
        default:
            return nil
        }
    }
}
