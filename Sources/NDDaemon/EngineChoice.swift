import CNDSystem
import Foundation
import NDCore
import NDEngine
import NDPolicy

/// Which engine a daemon uses, and why.
struct EngineChoice {
    var engine: any Engine
    var reason: String
    /// Whether ESP goes in UDP towards peers that can.
    var wantsUDP: Bool

    init(_ policy: Policy, device: String, interfaces: [String]) throws {
        let wanted: EngineKind
        switch policy.engine.kind {
        case .user: (wanted, reason) = (.user, "the policy asks for it")
        case .kernel: (wanted, reason) = (.kernel, "the policy asks for it")
        case .auto: (wanted, reason) = Self.examine(device)
        }
        wantsUDP = policy.engine.encapsulation == .udp || (policy.engine.encapsulation == .auto && wanted == .user)
        let kind = KernelProbe.deviceKind(device)
        if let kind, kind != (wanted == .user ? "tun" : "xfrm") {
            throw NDError(
                "engine.device", "the engine is to be \(wanted.rawValue), but there is a device \(device) of kind \(kind)",
                hint: "ndbpf unload takes away what an earlier run left; or name another device: --device. Nothing was changed")
        }
        engine = wanted == .user ? try Self.user(policy, device) : try Self.kernel(device, interfaces)
    }

    /// `auto`: the kernel's where all that it needs works, without a change of engine under secured
    /// connections.
    private static func examine(_ device: String) -> (EngineKind, String) {
        switch KernelProbe.deviceKind(device) {
        case "tun"?: return (.user, "auto: \(device) is the user engine's from an earlier run")
        case "xfrm"?: return (.kernel, "auto: \(device) is the kernel engine's from an earlier run")
        default: break
        }
        if let failed = KernelProbe.run().first(where: { $0.failure != nil }) {
            return (.user, "auto: the kernel can't, \(failed.name): \(failed.failure ?? "")")
        }
        return (.kernel, "auto: the kernel has ESP and XFRM interfaces")
    }

    private static func user(_ policy: Policy, _ device: String) throws -> any Engine {
        var configuration = UserEngineConfiguration()
        configuration.deviceName = device
        switch policy.engine.aead {
        case .auto: configuration.aead = .auto
        case .openssl: configuration.aead = .openssl
        case .ipsecMB: configuration.aead = .ipsecMB
        }
        return try UserEngine(configuration)
    }

    private static func kernel(_ device: String, _ interfaces: [String]) throws -> any Engine {
        if let failed = KernelProbe.run().first(where: { $0.failure != nil }) {
            throw NDError(
                "engine.kernel", "this kernel can't do ESP for ndbpf, \(failed.name): \(failed.failure ?? "")",
                hint: "\(failed.advice ?? "see `ndbpf doctor`"); nothing was changed")
        }
        var configuration = KernelEngineConfiguration()
        configuration.deviceName = device
        configuration.mtu = interfaces.map { Int(nd_interface_mtu($0)) }.filter { $0 > 0 }.min() ?? 1500
        return try KernelEngine(configuration)
    }

    /// Takes away what either engine left under this name.
    static func removeDevice(_ device: String) -> Bool {
        switch KernelProbe.deviceKind(device) {
        case "tun"?: UserEngine.removeDevice(device)
        case "xfrm"?: KernelEngine.removeAll(device)
        default: false
        }
    }
}

/// For commands that work without a daemon.
public enum EngineDevice {
    @discardableResult
    public static func remove(_ device: String) -> Bool { EngineChoice.removeDevice(device) }
}
