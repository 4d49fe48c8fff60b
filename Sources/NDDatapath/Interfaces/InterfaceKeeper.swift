import CLibbpf
import CNDABI
import CNDSystem
import Foundation
import NDABI
import NDCore

/// How one interface stands, by the kernel's own word.
public struct InterfaceState: Codable, Hashable, Sendable {
    public var interface: String
    public var index: UInt32
    public var role: InterfaceRole
    /// "tcx" or "clsact"
    public var attachment: String
    /// What is wrong; nil: ndbpf's program stands first, both ways.
    public var trouble: String?
    public var isInPlace: Bool { trouble == nil }
}

/// Has the right program on every interface of this network namespace, and before all others there: the tables on
/// protected ones, the guard on the rest. Compares with the kernel; what the record says is how to take it back.
public final class InterfaceKeeper: @unchecked Sendable {
    public struct Change: Hashable, Sendable {
        public enum Kind: String, Sendable {
            case attached, mended, troubled, left
        }
        public var kind: Kind
        public var state: InterfaceState
        public var text: String
    }

    private struct HookKey: Hashable {
        var index: UInt32
        var ingress: Bool
    }

    /// Somebody who always wants to be first would have us contend with him for ever.
    private static let mostContests = 5
    private static let contestSpan = Span.seconds(60)
    private static let contestPause = Span.seconds(10)

    public let instance: Instance
    private let lock = NSLock()
    private var record: LoadRecord
    private var programs: PinnedPrograms
    private let interfaces: BPFMap<UInt32, nd_interface>
    private var roles: InterfaceRoles
    private var states: [UInt32: InterfaceState] = [:]
    private var contests: [HookKey: [Instant]] = [:]
    private var recordChanged = false
    /// Takes fragments beside the device; another one with every daemon.
    private var fragments: UInt32?
    private var foundDevice: DeviceTrouble?

    public init(_ instance: Instance, _ record: LoadRecord) throws {
        self.instance = instance
        self.record = record
        programs = try PinnedPrograms(instance)
        interfaces = try instance.openMap("nd_interfaces")
        roles = InterfaceRoles((record.interfaces ?? []).compactMap { InterfacePattern($0) })
        roles.standing = Set(record.attachments.filter { $0.role == .protected }.map { UInt32(bitPattern: $0.ifindex) })
        if let device = record.deviceIndex { roles.devices.insert(device) }
    }

    deinit { close(interfaces.descriptor) }

    /// As the last look found them, protected ones first.
    public var current: [InterfaceState] { lock.withLock { sorted(states) } }
    public var protectedNames: [String] { current.filter { $0.role == .protected }.map(\.interface) }
    public enum DeviceTrouble: String, Sendable { case gone, down }
    public var deviceTrouble: DeviceTrouble? { lock.withLock { foundDevice } }
    /// Why there is no guard behind the routing; nil where there is one.
    public var missingHooks: String? { lock.withLock { record.missingHooks } }
    public var loaded: LoadRecord { lock.withLock { record } }

    private func sorted(_ states: [UInt32: InterfaceState]) -> [InterfaceState] {
        let order = InterfaceRole.allCases
        return states.values.sorted {
            let (a, b) = (order.firstIndex(of: $0.role) ?? 0, order.firstIndex(of: $1.role) ?? 0)
            return a == b ? $0.index < $1.index : a < b
        }
    }

    // MARK: looking

    private func links() throws(NDError) -> [NetworkInterface] {
        try LinkTable.read(defaultRoutes: roles.patterns.contains(.defaultRoute))
    }

    /// Changes nothing.
    public func look() throws -> [InterfaceState] {
        try lock.withLock {
            var found: [UInt32: InterfaceState] = [:]
            let links = try links()
            for interface in links {
                let role = roles.role(of: interface)
                guard let state = try state(of: interface, role) else { continue }
                found[interface.index] = state
            }
            if let device = record.deviceIndex, !links.contains(where: { $0.index == device }), let name = record.device {
                found[device] = InterfaceState(
                    interface: name, index: device, role: .device, attachment: "tcx", trouble: "the device is gone")
            }
            return sorted(found)
        }
    }

    /// nil: nothing is expected of it, or it went meanwhile.
    private func state(of interface: NetworkInterface, _ role: InterfaceRole) throws -> InterfaceState? {
        guard role != .device || interface.index == record.deviceIndex else { return nil }
        var state = InterfaceState(
            interface: interface.name, index: interface.index, role: role, attachment: kind(interface.index), trouble: nil)
        if role == .device, !interface.isUp { state.trouble = "the device is down" }
        for ingress in [true, false] {
            guard let name = PinnedPrograms.name(role, ingress: ingress, ethernet: interface.isEthernet) else { continue }
            guard let trouble = try trouble(DeviceHook(index: interface.index, ingress: ingress), name, state.attachment) else {
                return nil
            }
            if state.trouble == nil, case .some(let text) = trouble { state.trouble = text }
        }
        return state
    }

    private func kind(_ index: UInt32) -> String {
        record.attachments.first { $0.ifindex == Int32(bitPattern: index) }?.kind ?? (record.clsact == true ? "clsact" : "tcx")
    }

    /// The outer nil: the device is gone. The inner one: all is well.
    private func trouble(_ hook: DeviceHook, _ name: String, _ kind: String) throws -> String?? {
        let own = programs.ids(of: name)
        guard let tcx = try hook.tcxPrograms() else { return .none }
        if kind == "tcx" {
            switch DeviceHook.order(of: own, in: tcx) {
            case .first: return .some(nil)
            case .behind: return .some("another TCX program (id \(tcx[0])) stands before ndbpf's at \(hook.direction)")
            case .missing: return .some("no program of ndbpf's is attached at \(hook.direction)")
            }
        }
        if let other = tcx.first {
            return .some("a TCX program (id \(other)) stands before ndbpf's filter at \(hook.direction)")
        }
        guard let filters = try hook.filters() else { return .none }
        switch DeviceHook.order(of: own, in: filters.map(\.program)) {
        case .first: return .some(nil)
        case .behind: return .some("another filter (preference \(filters[0].priority)) stands before ndbpf's at \(hook.direction)")
        case .missing: return .some("no filter of ndbpf's is attached at \(hook.direction)")
        }
    }

    // MARK: putting right

    /// Puts right what can be. An error of one interface is its trouble; a list that can't be read is thrown, and
    /// everything stays as it is.
    @discardableResult
    public func settle() throws -> [Change] {
        try lock.withLock {
            let links = try links()
            if record.missingHooks == nil, !NetfilterHooks.areAttached(instance) { record.missingHooks = try attachHooks() }
            var changes: [Change] = []
            var now: [UInt32: InterfaceState] = [:]
            for interface in links {
                let role = roles.role(of: interface)
                if role == .protected { roles.standing.insert(interface.index) }
                guard role != .device || interface.index == record.deviceIndex else {
                    try mark(interface.index, role, "tcx")
                    continue
                }
                if role == .device, !isDevice(interface) {
                    // Another one has its index: nothing of ndbpf's belongs there.
                    roles.devices.remove(interface.index)
                    continue
                }
                guard var state = try state(of: interface, role) else { continue }
                let found = state.trouble
                if let trouble = found {
                    let failure = mend(interface, role)
                    guard let after = try self.state(of: interface, role) else { continue }
                    state = after
                    if let failure, state.trouble != nil { state.trouble = failure == trouble ? trouble : "\(trouble): \(failure)" }
                }
                if let change = Self.change(from: states[interface.index], found: found, to: state) { changes.append(change) }
                now[interface.index] = state
                state.isInPlace ? try mark(interface.index, role, state.attachment) : unmark(interface.index)
                takeName(of: interface)
            }
            leave(links, &now, &changes)
            states = now
            if recordChanged {
                record = try record.writeAttachments(instance)
                recordChanged = false
            }
            return changes
        }
    }

    /// After somebody took their pins away.
    private func attachHooks() throws -> String? {
        let why = try NetfilterHooks.attach(instance)
        programs = try PinnedPrograms(instance)
        recordChanged = true
        return why
    }

    /// nil: nothing that was not told before.
    private static func change(from before: InterfaceState?, found: String?, to state: InterfaceState) -> Change? {
        guard let before, before.role == state.role else {
            guard let trouble = state.trouble else {
                return Change(
                    kind: .attached, state: state,
                    text: state.role == .protected ? "protected from now on" : state.role == .guarded ? "guarded from now on" : "in place")
            }
            return Change(kind: .troubled, state: state, text: trouble)
        }
        if let trouble = state.trouble {
            return trouble == before.trouble ? nil : Change(kind: .troubled, state: state, text: trouble)
        }
        if before.trouble != nil { return Change(kind: .mended, state: state, text: "in place again") }
        return found.map { Change(kind: .mended, state: state, text: "\($0): put right") }
    }

    /// What a policy names and this namespace has not.
    public func unmatched() throws -> [InterfacePattern] { try lock.withLock { roles.unmatched(try links()) } }

    private func leave(_ links: [NetworkInterface], _ now: inout [UInt32: InterfaceState], _ changes: inout [Change]) {
        let present = Set(links.map(\.index))
        for old in record.attachments where !present.contains(UInt32(bitPattern: old.ifindex)) {
            unlink(instance.linkPin(old.ifindex, old.direction))
            recordChanged = true
        }
        record.attachments.removeAll { !present.contains(UInt32(bitPattern: $0.ifindex)) }
        for (index, _) in interfaces.entries() where !present.contains(index) { unmark(index) }
        roles.standing.formIntersection(present)
        for (index, state) in states where !present.contains(index) {
            contests[HookKey(index: index, ingress: true)] = nil
            contests[HookKey(index: index, ingress: false)] = nil
            guard state.role != .device else { continue }
            changes.append(Change(kind: .left, state: state, text: "the interface is gone"))
        }
        foundDevice = nil
        guard let device = record.deviceIndex, let name = record.device else { return }
        let ours = links.filter { isDevice($0) || $0.index == fragments }
        if ours.contains(where: { !$0.isUp }) { foundDevice = .down }
        if ours.count < (fragments == nil ? 1 : 2) { foundDevice = .gone }
        if foundDevice != nil, now[device]?.trouble == nil, ours.contains(where: { $0.index == device }) {
            now[device]?.trouble = "\(name)f, which takes fragments, is \(foundDevice == .gone ? "gone" : "down")"
        }
        if !ours.contains(where: { $0.index == device }) {
            var state = InterfaceState(interface: name, index: device, role: .device, attachment: kind(device), trouble: nil)
            state.trouble = "the device is gone"
            now[device] = state
            if states[device]?.trouble != state.trouble {
                changes.append(Change(kind: .troubled, state: state, text: "the device is gone: what is protected waits"))
            }
        }
    }

    /// An index may be another device's by now. The link that hangs on ours lives with it; without it name and kind
    /// tell.
    private func isDevice(_ interface: NetworkInterface) -> Bool {
        guard interface.index == record.deviceIndex else { return false }
        let fd = bpf_obj_get(instance.linkPin(Int32(bitPattern: interface.index), "ingress"))
        if fd >= 0 {
            defer { close(fd) }
            var (program, index): (UInt32, UInt32) = (0, 0)
            if nd_link_describe(fd, &program, &index) == 0, index == interface.index { return true }
        }
        return interface.name == record.device && (record.deviceKind == nil || record.deviceKind == interface.kind)
    }

    private func takeName(of interface: NetworkInterface) {
        for position in record.attachments.indices
        where record.attachments[position].ifindex == Int32(bitPattern: interface.index)
            && record.attachments[position].interface != interface.name
        {
            record.attachments[position].interface = interface.name
            recordChanged = true
        }
    }

    private func mark(_ index: UInt32, _ role: InterfaceRole, _ kind: String) throws {
        var value = nd_interface()
        switch role {
        case .protected: value.role = ND_INTERFACE_PROTECTED.rawValue
        case .guarded: value.role = ND_INTERFACE_GUARDED.rawValue
        case .device: value.role = ND_INTERFACE_DEVICE.rawValue
        }
        value.flags = kind == "clsact" ? ND_INTERFACE_CLSACT : 0
        if let known = interfaces.lookup(index), known.role == value.role, known.flags == value.flags { return }
        try interfaces.update(index, value)
    }

    private func unmark(_ index: UInt32) { interfaces.delete(index) }

    // MARK: one interface

    /// nil, or why it can't be put right.
    private func mend(_ interface: NetworkInterface, _ role: InterfaceRole) -> String? {
        var isBare = false
        for ingress in [true, false] {
            guard let name = PinnedPrograms.name(role, ingress: ingress, ethernet: interface.isEthernet) else { continue }
            do {
                let hook = DeviceHook(index: interface.index, ingress: ingress)
                let wrong = try trouble(hook, name, kind(interface.index))
                guard case .some(.some(let text)) = wrong else { continue }
                guard mayContend(hook) else { return "\(text); it comes back each time" }
                // The qdisc is there before its filters: until both are, the guard that hangs on no device must
                // not take it for ours.
                if kind(interface.index) == "clsact", !isBare {
                    try mark(interface.index, role, "")
                    isBare = true
                }
                try attach(interface, role, hook, name)
            } catch let error as NDError {
                return error.message
            } catch {
                return "\(error)"
            }
        }
        return nil
    }

    private func mayContend(_ hook: DeviceHook) -> Bool {
        let key = HookKey(index: hook.index, ingress: hook.ingress)
        let now = Instant.now()
        var times = (contests[key] ?? []).filter { now.since($0) < Self.contestSpan }
        defer { contests[key] = times }
        if times.count >= Self.mostContests, let last = times.last, now.since(last) < Self.contestPause { return false }
        times.append(now)
        return true
    }

    private func attach(_ interface: NetworkInterface, _ role: InterfaceRole, _ hook: DeviceHook, _ name: String) throws {
        let old = record.attachments.first { $0.ifindex == Int32(bitPattern: hook.index) && $0.direction == hook.direction }
        var made = LoadRecord.Attachment(
            interface: interface.name, ifindex: Int32(bitPattern: hook.index), direction: hook.direction, kind: "tcx",
            madeQdisc: old?.madeQdisc ?? false)
        made.role = role
        if record.clsact != true, try attachTCX(hook, name, interface.name) {
            // The new one stands; what it takes the place of fell with its pin.
            if let old, old.kind == "clsact" { detachFilter(old) }
        } else {
            try attachFilter(interface, hook, name, old, &made)
        }
        record.attachments.removeAll { $0.ifindex == made.ifindex && $0.direction == made.direction }
        record.attachments.append(made)
        recordChanged = true
    }

    /// False: this kernel has no TCX.
    private func attachTCX(_ hook: DeviceHook, _ name: String, _ interface: String) throws -> Bool {
        let hanging = try hook.tcxPrograms() ?? []
        let fd = try programs.descriptor(name, notAmong: hanging)
        defer { close(fd) }
        let link = nd_tcx_attach(fd, Int32(hook.index), hook.ingress)
        if link == -EINVAL {
            record.clsact = true
            return false
        }
        guard link >= 0 else {
            throw NDError("load.attach", "can't attach to \(interface) \(hook.direction): \(String(cString: strerror(-link)))")
        }
        defer { close(link) }
        let pin = instance.linkPin(Int32(hook.index), hook.direction)
        let fresh = pin + "_new"
        unlink(fresh)
        guard bpf_obj_pin(link, fresh) == 0, rename(fresh, pin) == 0 else {
            let error = errno
            unlink(fresh)
            throw NDError("load.pin", "can't pin the link of \(interface): \(String(cString: strerror(error)))")
        }
        return true
    }

    private func attachFilter(
        _ interface: NetworkInterface, _ hook: DeviceHook, _ name: String, _ old: LoadRecord.Attachment?,
        _ made: inout LoadRecord.Attachment
    ) throws {
        made.kind = "clsact"
        let there = try hook.filters() ?? []
        let fd = try programs.descriptor(name, notAmong: [])
        defer { close(fd) }
        var failure: Int32 = 0
        for preference in DeviceHook.preferences {
            let taken = Set(there.filter { $0.priority == preference }.map(\.handle))
            guard let handle = DeviceHook.handles.first(where: { !taken.contains($0) }) else {
                failure = -EEXIST
                continue
            }
            var qdisc = false
            failure = nd_clsact_attach(fd, Int32(hook.index), hook.ingress, handle, preference, &qdisc)
            guard failure == 0 else { continue }
            made.madeQdisc = made.madeQdisc || qdisc
            made.priority = preference
            made.handle = handle
            if let old, old.kind == "clsact", old.priority != preference || old.handle != handle { detachFilter(old) }
            return
        }
        throw NDError(
            "load.attach", "can't attach to \(interface.name) \(hook.direction): \(String(cString: strerror(-failure)))",
            context: String(cString: nd_bpf_log()),
            hint: failure == -EEXIST || failure == -EINVAL
                ? "a qdisc or a filter of preference 1 is in the way: tc qdisc show dev \(interface.name); tc filter show dev \(interface.name) \(hook.direction)"
                : nil)
    }

    private func detachFilter(_ attachment: LoadRecord.Attachment) {
        _ = nd_clsact_detach(
            attachment.ifindex, attachment.direction == "ingress", attachment.handle ?? DeviceHook.handles[0],
            attachment.priority ?? DeviceHook.preferences[0])
    }

    // MARK: the device

    /// The engine has made it, or made it again.
    public func take(device name: String, index: UInt32, fragments: UInt32) throws {
        try lock.withLock {
            let kind = try links().first { $0.index == index }?.kind
            if let old = record.deviceIndex, old != index {
                roles.devices.remove(old)
                states[old] = nil
                for attachment in record.attachments where attachment.ifindex == Int32(bitPattern: old) {
                    unlink(instance.linkPin(attachment.ifindex, attachment.direction))
                }
                record.attachments.removeAll { $0.ifindex == Int32(bitPattern: old) }
            }
            if let old = self.fragments { roles.devices.remove(old) }
            self.fragments = fragments == 0 ? nil : fragments
            roles.devices.formUnion([index] + (fragments == 0 ? [] : [fragments]))
            roles.standing.subtract(roles.devices)
            record.device = name
            record.deviceIndex = index
            record.deviceKind = kind
            recordChanged = true
        }
        try settle()
        if let trouble = current.first(where: { $0.index == index })?.trouble {
            throw NDError("load.attach", "can't attach to \(name): \(trouble)")
        }
    }
}
