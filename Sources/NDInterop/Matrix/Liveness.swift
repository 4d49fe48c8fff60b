import Foundation
import Glibc
import NDCore
import NDLab

/// Dead peer detection (RFC 3706), as the peer asks for it.
enum Liveness {
    /// Seconds of silence until the peer asks; it gives up after four times that.
    private static let delay = 1

    /// A silent pair outlives the peer's patience because ndbpf answers.
    static func askedByPeer(_ stage: InteropStage, _ kind: PeerKind) throws -> String {
        let peer = try stage.peer(kind)
        let connection = PeerConnection(
            local: peer.host.ipv4, remote: stage.alpha.ipv4,
            suite: InteropSuite(group: .ecp256, esp: .aesGCM16(keyBits: 128), forwardSecrecy: nil),
            secret: stage.secret, deadPeerDetection: delay)
        let mark = peer.log.utf8.count
        try peer.load(connection)
        defer {
            try? stage.control.delete(peer.host.ipv4)
            try? peer.unload(connection)
        }
        try peer.initiate(connection)
        let before = Set(try KernelState.all(peer.host).map(\.spi))
        sleep(UInt32(delay * 6))
        guard Set(try KernelState.all(peer.host).map(\.spi)) == before, !before.isEmpty else {
            throw NDError("interop.liveness", "the peer took ndbpf for dead")
        }
        let said = String(decoding: peer.log.utf8.dropFirst(mark), as: UTF8.self)
        guard said.contains(peer.liveness) else {
            throw NDError("interop.liveness", "the peer's log has no '\(peer.liveness)': it never asked")
        }
        return "the pair outlived \(delay * 6) s of silence, asked every \(delay) s"
    }
}
