import NDCore
import NDLab

/// How long connect() takes when there is no SA yet and the peer takes no clear packet.
enum ColdConnects {
    static let baselineName = "strongSwan to strongSwan, trap policy on both"
    private static let rounds = 5
    private static let suite = InteropSuite(group: .ecp256, esp: .aesGCM16(keyBits: 128), forwardSecrecy: nil)

    /// strongSwan to strongSwan, a trap policy on both: what the first packet costs without ndbpf.
    static func baseline(_ stage: InteropStage) throws -> [Double] {
        let beta = try stage.peer(.strongSwan)
        let delta = try stage.startBaseline()
        defer { delta.stop() }
        let there = PeerConnection(
            local: beta.host.ipv4, remote: delta.host.ipv4, suite: suite, secret: stage.secret, requiresIPsec: true)
        var here = there
        swap(&here.local, &here.remote)
        try beta.load(there)
        try delta.load(here)
        let times = try measure(stage, from: delta.host, to: beta.host) { try delta.terminate(here) }
        try beta.unload(there)
        return times
    }

    /// ndbpf to a peer that requires IPsec.
    static func upgraded(_ stage: InteropStage, _ kind: PeerKind) throws -> [Double] {
        let peer = try stage.peer(kind)
        let connection = PeerConnection(
            local: peer.host.ipv4, remote: stage.alpha.ipv4, suite: suite, secret: stage.secret, requiresIPsec: true)
        try peer.load(connection)
        let times = try measure(stage, from: stage.alpha, to: peer.host) {
            // strongSwan's trap policy may be in the middle of asking for a pair of its own.
            try Wait.until("the peer lets go", seconds: 10, every: 50_000) {
                try stage.control.delete(peer.host.ipv4)
                return try KernelState.all(peer.host).isEmpty
            }
        }
        try peer.unload(connection)
        return times
    }

    private static func measure(
        _ stage: InteropStage, from: Lab.Host, to: Lab.Host, forget: () throws -> Void
    ) throws -> [Double] {
        var times: [Double] = []
        for _ in 0..<rounds {
            let (source, target) = (from.ipv4, Endpoint(to.ipv4, Servers.echoPort))
            times.append(
                try stage.lab.inside(from) {
                    let open = try Traffic.connectTCP(from: source, to: target, timeoutSeconds: 15)
                    try Traffic.echo(open)
                    try open.finish()
                    open.close()
                    return open.milliseconds
                })
            try forget()
        }
        return times
    }
}
