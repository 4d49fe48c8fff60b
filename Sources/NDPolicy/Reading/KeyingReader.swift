import NDCore
import Yams

extension PolicyReader {
    func keying(_ top: MappingReader) -> Policy.Keying {
        var result = Policy.Keying()
        guard
            let section = top.mapping(
                "keying", keys: ["modules", "main-mode", "quick-mode", "retransmission"])
        else { return result }
        if let items = section.list("modules", of: "keying modules") { result.modules = modules(items, section) }
        if let main = section.mapping("main-mode", keys: ["proposals", "lifetime"]) {
            result.mainMode = proposals(main, default: result.mainMode, all: MainModeProposal.all, listed: MainModeProposal.grammar)
            result.mainModeLifetime = main.span("lifetime", from: "1m", to: "168h", default: result.mainModeLifetime)
        }
        if let quick = section.mapping(
            "quick-mode", keys: ["proposals", "pfs", "lifetime", "extended-sequence-numbers"])
        {
            result.quickMode = proposals(quick, default: result.quickMode, all: ESPSuite.all)
            result.quickModeGroup = group(quick)
            result.quickModeLifetime = quick.span("lifetime", from: "10s", to: "48h", default: result.quickModeLifetime)
            result.extendedSequenceNumbers = quick.flag("extended-sequence-numbers", default: true)
        }
        if let retransmission = section.mapping("retransmission", keys: ["first", "tries"]) {
            result.retransmitFirst = retransmission.span(
                "first", from: "100ms", to: "30s", default: result.retransmitFirst)
            result.retransmitTries = retransmission.integer("tries", in: 1...20, default: result.retransmitTries)
        }
        return result
    }

    private func modules(_ items: [Node], _ section: MappingReader) -> [Policy.Keying.Module] {
        var result: [Policy.Keying.Module] = []
        if items.isEmpty {
            findings.add("value", at: section.place("modules"), "no keying module is given", fix: "write `modules: [ikev1]`")
        }
        for item in items {
            guard let name = scalarText(item, "keying.modules", of: "a word", findings) else { continue }
            switch (name, Policy.Keying.Module(rawValue: name)) {
            case (_, let module?):
                if !result.contains(module) { result.append(module) }
            case ("authip", _), ("ikev2", _):
                findings.add(
                    "unsupported", at: item.mark, "this version can't negotiate with \(name) yet",
                    fix: "write `modules: [ikev1]`; Windows hosts with an ND rule speak it too")
            default:
                refuse(name, at: item.mark, key: "keying.modules", allowed: ["ikev1"], findings)
            }
        }
        return result
    }

    private func proposals<T: Equatable & CustomStringConvertible>(
        _ section: MappingReader, default fallback: [T], all: [T], listed: String? = nil
    ) -> [T] {
        guard let items = section.list("proposals", of: "proposals", most: 32) else { return fallback }
        if items.isEmpty {
            findings.add(
                "value", at: section.place("proposals"), "'\(section.full("proposals"))' is an empty list",
                fix: "name at least one, such as \(all.first.map { "\($0)" } ?? "")")
        }
        var result: [T] = []
        for item in items {
            guard let name = scalarText(item, section.full("proposals"), of: "a proposal", findings) else { continue }
            guard let proposal = all.first(where: { $0.description == name }) else {
                refuse(
                    name, at: item.mark, key: section.full("proposals"), allowed: all.map(\.description),
                    listed: listed, findings)
                continue
            }
            if result.contains(proposal) {
                findings.add("value", at: item.mark, "proposal '\(name)' is given twice", fix: "keep one of them")
            } else {
                result.append(proposal)
            }
        }
        return result
    }

    private func group(_ section: MappingReader) -> DiffieHellmanGroup? {
        guard let node = section.node("pfs"),
            let name = scalarText(node, section.full("pfs"), of: "a word", findings), name != "none"
        else { return nil }
        if let group = DiffieHellmanGroup(rawValue: name) { return group }
        refuse(
            name, at: node.mark, key: section.full("pfs"),
            allowed: ["none"] + DiffieHellmanGroup.allCases.map(\.rawValue), findings)
        return nil
    }
}
