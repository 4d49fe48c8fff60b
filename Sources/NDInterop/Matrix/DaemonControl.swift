import Foundation
import NDCore
import NDDaemon
import NDDatapath

/// ndbpf's control socket, as `ndbpf sas` uses it, without the cost of a process in a guest.
struct DaemonControl: Sendable {
    let instance: Instance

    private func ask(_ request: ControlRequest) throws -> ControlAnswer {
        try ControlClient(path: instance.controlSocket, instance: instance.name, timeoutSeconds: 20).ask(request)
    }

    func securityAssociations(with remote: IPAddress) throws -> [SAReport] {
        (try ask(ControlRequest(.sas)).sas ?? []).filter { $0.remote == "\(remote)" }
    }

    func delete(_ remote: IPAddress) throws { _ = try ask(ControlRequest(.delete, remote: "\(remote)")) }

    func rekey(_ remote: IPAddress) throws {
        guard let verb = ControlRequest.Verb(rawValue: "rekey") else {
            throw NDError("interop.rekey", "this ndbpf has no command to rekey")
        }
        _ = try ask(ControlRequest(verb, remote: "\(remote)"))
    }

    func counters() throws -> [String: UInt64] { try ask(ControlRequest(.keying)).keying?.counters ?? [:] }
}
