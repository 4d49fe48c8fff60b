import CNetlink
import Glibc
import NDCore

/// A network device, as far as ndbpf looks at it.
struct LinkDescription: Hashable, Sendable {
    var index: Int32
    /// "xfrm", "tun", "veth"; nil for hardware.
    var kind: String?
    var interfaceID: UInt32?
}

/// Messages about the XFRM interface (rtnetlink(7), IFLA_XFRM_IF_ID).
enum XFRMLinkCodec {
    /// index: 0 lets the kernel choose.
    static func create(name: String, interfaceID: UInt32, mtu: UInt32? = nil, index: Int32 = 0) -> NetlinkRequest {
        var request = NetlinkRequest(RTM_NEWLINK, flags: NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK)
        var info = ifinfomsg()
        info.ifi_index = index
        request.append(info)
        request.attribute(IFLA_IFNAME, Array(name.utf8) + [0])
        if let mtu { request.attribute(IFLA_MTU, value: mtu) }
        request.nested(IFLA_LINKINFO) { info in
            info.attribute(IFLA_INFO_KIND, Array("xfrm".utf8))
            info.nested(IFLA_INFO_DATA) { $0.attribute(IFLA_XFRM_IF_ID, value: interfaceID) }
        }
        return request
    }

    static func delete(index: Int32) -> NetlinkRequest {
        var request = NetlinkRequest(RTM_DELLINK, flags: NLM_F_ACK)
        var info = ifinfomsg()
        info.ifi_index = index
        request.append(info)
        return request
    }

    static func get(name: String) -> NetlinkRequest {
        var request = NetlinkRequest(RTM_GETLINK)
        request.append(ifinfomsg())
        request.attribute(IFLA_IFNAME, Array(name.utf8) + [0])
        return request
    }

    static func decode(_ message: NetlinkMessage) -> LinkDescription? {
        guard let info: ifinfomsg = message.payload.structure() else { return nil }
        var link = LinkDescription(index: info.ifi_index)
        let attributes = message.attributes(skipping: MemoryLayout<ifinfomsg>.size)
        guard let described = attributes[UInt16(IFLA_LINKINFO)] else { return link }
        let parts = NetlinkMessage.attributes(described)
        link.kind = parts[UInt16(IFLA_INFO_KIND)].map { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        if link.kind == "xfrm", let data = parts[UInt16(IFLA_INFO_DATA)] {
            link.interfaceID = NetlinkMessage.attributes(data)[UInt16(IFLA_XFRM_IF_ID)]?.structure()
        }
        return link
    }
}
