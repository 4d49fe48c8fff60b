import CNDABI
import CNDSystem
import Foundation
import NDABI
import NDCore

/// Takes over what another build loaded: its secured flows, clear flows and peers, with programs of this build in the
/// place of its own, and without an instant in which an interface has none.
///
/// The new state is made beside the old one, in `next` (UpgradePins): maps, programs, the policy, and a copy of what is
/// carried (CarriedState). Then the new programs are put before the old ones on each interface (ProgramSwitch). A flow
/// that the old ones still secure meanwhile belongs to a peer that is secured in the new table too: its next packet
/// makes its entry there, or waits. Then the directories of pins change their names in one instant, the old programs
/// are taken off, and what they came to know since the copy is merged.
///
/// Whoever is killed on the way leaves programs of one of the two before every packet, with a table that knows every
/// secured flow that it has to know; the next `run` goes on from there, or begins again where nothing hangs yet.
public enum Upgrade {
    public enum Due: Equatable, Sendable {
        /// Loaded by a version with this ABI.
        case version(UInt32)
        /// Loaded by another build with the same ABI.
        case build
        /// This build's own upgrade was ended half-way.
        case unfinished

        public var text: String {
            switch self {
            case .version(let abi): "loaded by a version with ABI \(abi), this one has \(ND_ABI_VERSION)"
            case .build: "loaded by another build"
            case .unfinished: "an upgrade was ended half-way"
            }
        }
    }

    /// What is done by then; tests end an upgrade at each.
    enum Step: CaseIterable { case begun, made, filled, ready, switched, merged, exchanged, recorded, takenOff, mergedAgain, cleared }

    /// nil: nothing is loaded, or this build loaded it.
    public static func due(_ instance: Instance) throws -> Due? {
        // One of a namespace that is gone, or of another one, is no business of this.
        guard try instance.residence() == .here else { return nil }
        let abi = try instance.loadedABI()
        if abi != ND_ABI_VERSION { return .version(abi) }
        if BuildMark.read(instance) != BuildMark.own { return .build }
        return UpgradePins(instance: instance).all.isEmpty && access(instance.beside(UpgradePins.next).recordFile, F_OK) != 0
            ? nil : .unfinished
    }

    private static func isForeign(_ instance: Instance) throws -> Bool {
        try instance.loadedABI() != ND_ABI_VERSION || BuildMark.read(instance) != BuildMark.own
    }

    /// Whoever calls holds the daemon's lock. `commit` puts the policy into a datapath that has none yet.
    public static func run(_ instance: Instance, options: LoadOptions, commit: (Datapath) throws -> Void) throws -> LoadRecord {
        do {
            return try advance(instance, options: options, commit: commit)
        } catch {
            // Programs that stand first already go: the old ones are behind them, with all that they know.
            let pins = UpgradePins(instance: instance)
            if try isForeign(instance) {
                try? SupersededPrograms.takeOff(pins.next, among: LinkTable.read(defaultRoutes: false))
                pins.next.removePins()
                unlink(pins.next.recordFile)
            }
            throw error
        }
    }

    /// Without the way back: as far as it comes.
    static func advance(
        _ instance: Instance, options: LoadOptions, commit: (Datapath) throws -> Void, reached: (Step) throws -> Void = { _ in }
    ) throws -> LoadRecord {
        guard geteuid() == 0 else { throw NDError("load.permission", "an upgrade needs root", hint: "run with sudo") }
        try instance.requireHere("load.namespace")
        let pins = UpgradePins(instance: instance)
        try pins.sort()
        if try isForeign(instance) {
            if !pins.canGoOn { try prepare(pins, options, commit, reached) }
            guard let record = LoadRecord.read(pins.next) else {
                throw NDError("upgrade.record", "can't read \(pins.next.recordFile)", hint: "nothing was changed")
            }
            try ProgramSwitch(next: pins.next, before: [instance] + pins.superseded).perform(record)
            try reached(.switched)
            // Once before the old pins go out of sight, and again when their programs run no more.
            try merge(into: pins.next, from: [instance] + pins.superseded)
            try reached(.merged)
            try pins.exchange()
            try reached(.exchanged)
        }
        return try finish(pins, reached)
    }

    // MARK: before anything hangs

    private static func prepare(
        _ pins: UpgradePins, _ options: LoadOptions, _ commit: (Datapath) throws -> Void, _ reached: (Step) throws -> Void
    ) throws {
        let instance = pins.instance
        let carried = try CarriedState.read(instance)
        let others = try pins.superseded.map { try CarriedState.read($0) }
        let old = LoadRecord.read(instance)
        let patterns = try Loader.patterns(options.interfaces)
        let links = try LinkTable.read(defaultRoutes: patterns.contains(.defaultRoute))
        let roles = InterfaceRoles(patterns)
        try check(instance, old, roles, links)
        var record = record(of: old, carried, options, links)
        record.tookOver = carried.sum

        try pins.begin()
        try reached(.begun)
        var sizes = options
        // What was there has room again.
        let wanted = options.tables.resolved()
        sizes.tables = TableSizeChoice(
            flows: max(wanted.flows, UInt32(clamping: carried.flowRoom)),
            secured: max(wanted.secured, UInt32(clamping: carried.securedRoom)),
            peers: max(wanted.peers, UInt32(clamping: carried.peerRoom)))
        let protected = links.filter { roles.role(of: $0) == .protected }
        try Loader.pinPrograms(pins.next, sizes, ethernet: Set(protected.map(\.isEthernet)))
        try pins.next.pinNamespace()
        try BuildMark.write(pins.next)
        try reached(.made)
        let datapath = try Datapath(pins.next)
        // Before the policy: numbers of machines stay, and where decrypted packets are met depends on the engine.
        try carried.write(datapath)
        for other in others { try other.merge(datapath) }
        try takeDevices(datapath, carried.state, record)
        try reached(.filled)
        try commit(datapath)
        try LocalAddresses.synchronize(datapath, protected: protected.map(\.name))
        try record.write(pins.next)
        pins.markReady()
        try reached(.ready)
    }

    /// Whether this is the namespace that the old programs hang in, and nothing that they protect would be left out.
    private static func check(
        _ instance: Instance, _ old: LoadRecord?, _ roles: InterfaceRoles, _ links: [NetworkInterface]
    ) throws {
        let hanging = try SupersededPrograms.devices(try SupersededPrograms.ids(instance), among: links)
        guard !hanging.isEmpty else {
            throw NDError(
                "upgrade.namespace", "no interface of this network namespace has a program of instance '\(instance.name)'",
                hint: "work in the namespace that it was loaded in: --netns NAME; nothing was changed")
        }
        let device = old?.device
        for attachment in old?.attachments ?? [] where attachment.interface != device {
            let index = UInt32(bitPattern: attachment.ifindex)
            guard attachment.role ?? .protected == .protected, hanging.contains(index),
                let link = links.first(where: { $0.index == index }), roles.role(of: link) != .protected
            else { continue }
            throw NDError(
                "upgrade.interfaces",
                "interface \(link.name) is protected and the policy does not name it any more",
                hint: "upgrade with the interfaces as they are, change them afterwards; nothing was changed")
        }
    }

    private static func record(
        of old: LoadRecord?, _ carried: CarriedState, _ options: LoadOptions, _ links: [NetworkInterface]
    ) -> LoadRecord {
        var record = LoadRecord()
        record.loadedAt = ISO8601DateFormatter().string(from: Date())
        record.interfaces = options.interfaces
        record.build = BuildMark.own
        record.networkNamespace = old?.networkNamespace
        record.policyFile = old?.policyFile
        if options.forceClsact || old?.clsact == true || old?.attachments.contains(where: { $0.kind == "clsact" }) == true {
            record.clsact = true
        }
        record.earlierQdiscs = (old?.attachments ?? []).filter(\.madeQdisc).map(\.ifindex)
        let index = old?.deviceIndex ?? carried.state.nd0
        if let name = old?.device, links.contains(where: { $0.index == index && $0.name == name }) {
            (record.device, record.deviceIndex, record.deviceKind) = (name, index, old?.deviceKind)
        }
        return record
    }

    /// What is protected goes on into the device, where it is the one that the old programs sent to. The kernel's engine
    /// has its SAs still.
    private static func takeDevices(_ datapath: Datapath, _ state: nd_state, _ record: LoadRecord) throws {
        try datapath.changeState { $0.flags |= state.flags & ND_STATE_KERNEL_ENGINE }
        guard let device = record.deviceIndex, device == state.nd0 else { return }
        try datapath.setDevices(nd0: device, fragments: state.fragments)
    }

    // MARK: after the new programs stand first

    private static func merge(into instance: Instance, from states: [Instance]) throws {
        let datapath = try Datapath(instance)
        for state in states { try CarriedState.read(state).merge(datapath) }
    }

    private static func finish(_ pins: UpgradePins, _ reached: (Step) throws -> Void) throws -> LoadRecord {
        let instance = pins.instance
        // By its build: an upgrade to another one may have been given up.
        if let fresh = LoadRecord.read(pins.next), fresh.build == BuildMark.own {
            guard rename(pins.next.recordFile, instance.recordFile) == 0 else {
                throw NDError("upgrade.record", "can't write \(instance.recordFile): \(String(cString: strerror(errno)))")
            }
        }
        unlink(pins.next.recordFile)
        try reached(.recorded)
        let links = try LinkTable.read(defaultRoutes: false)
        let superseded = pins.superseded
        for state in superseded { try SupersededPrograms.takeOff(state, among: links) }
        try reached(.takenOff)
        try merge(into: instance, from: superseded)
        try reached(.mergedAgain)
        for state in superseded { state.removePins() }
        try reached(.cleared)
        try NetfilterHooks.forgetOthers(instance)
        guard var record = LoadRecord.read(instance) else {
            throw NDError("upgrade.record", "can't read \(instance.recordFile)", hint: "ndbpf unload --force, then load again")
        }
        let qdiscs = Set(record.earlierQdiscs ?? [])
        for place in record.attachments.indices
        where record.attachments[place].kind == "clsact" && qdiscs.contains(record.attachments[place].ifindex) {
            record.attachments[place].madeQdisc = true
        }
        record.earlierQdiscs = nil
        try record.write(instance)
        return record
    }
}
