import CNDSystem
import Foundation
import NDCore

/// The directories of pins that an upgrade has beside the one in force. One is `next`: what will take its place.
/// Others, `was`, are superseded: their programs may still hang behind the new ones, and their tables may know a flow
/// that nobody else does. A directory changes its name in one instant, so whoever is killed leaves one of few states.
struct UpgradePins {
    static let next = "+next"
    private static let was = "+was"
    /// Marks a `next` that is not whole: nothing hangs on any interface yet.
    private static let unready = "unready"

    let instance: Instance
    var next: Instance { instance.beside(Self.next) }

    /// Oldest first.
    var superseded: [Instance] {
        let prefix = instance.name + Self.was
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "\(Instance.bpffs)/ndbpf")) ?? []
        return names.filter { $0.hasPrefix(prefix) }
            .compactMap { Int($0.dropFirst(prefix.count)) }.sorted().map { instance.beside("\(Self.was)\($0)") }
    }

    /// Every directory that belongs to the instance but the one in force.
    var all: [Instance] { (access(next.pinDirectory, F_OK) == 0 ? [next] : []) + superseded }

    // MARK: what a killed upgrade left

    /// Puts `next` where it belongs: nowhere, if nothing of it is in use; it stays, if this build may go on with it;
    /// and it is superseded otherwise.
    func sort() throws {
        guard access(next.pinDirectory, F_OK) == 0 else { return }
        if !next.isLoaded || next.readMark(Self.unready) != nil {
            next.removePins()
        } else if BuildMark.read(next) != BuildMark.own || BuildMark.read(instance) == BuildMark.own {
            try supersede()
        }
    }

    /// Whether `next` is whole, and this build's.
    var canGoOn: Bool { access(next.pinDirectory, F_OK) == 0 && BuildMark.read(next) == BuildMark.own }

    // MARK: steps

    func begin() throws {
        try FileManager.default.createDirectory(
            atPath: next.pinDirectory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        try next.writeMark(Self.unready, Self.unready)
    }

    func markReady() { unlink(next.mapPin(Self.unready)) }

    /// From now on the new pins are those in force.
    func exchange() throws {
        let error = nd_exchange(next.pinDirectory, instance.pinDirectory)
        guard error == 0 else {
            throw NDError(
                "upgrade.exchange", "can't put the new pins in the place of the old ones: \(String(cString: strerror(-error)))",
                hint: "Linux 5.17 or newer is needed; nothing was changed")
        }
        try supersede()
    }

    private func supersede() throws {
        let number = superseded.count + 1
        let taken = Set(superseded.map(\.pinDirectory))
        for place in number..<number + 1000 {
            let free = instance.beside("\(Self.was)\(place)")
            guard !taken.contains(free.pinDirectory) else { continue }
            guard rename(next.pinDirectory, free.pinDirectory) == 0 else { break }
            return
        }
        throw NDError("upgrade.pins", "can't rename \(next.pinDirectory): \(String(cString: strerror(errno)))")
    }
}

extension Instance {
    /// bpffs has no recursive delete of its own, and a pinned link falls with its file.
    func removePins() {
        for file in (try? FileManager.default.contentsOfDirectory(atPath: pinDirectory)) ?? [] { unlink(mapPin(file)) }
        rmdir(pinDirectory)
    }
}
