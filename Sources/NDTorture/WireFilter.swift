/// What a wire loses of what one host sends: a classic BPF program for `tc … bpf da bytecode`.
enum WireLoss: Hashable, Sendable {
    case ike, esp, everything
    /// Percent of all packets.
    case some(Int)
}

enum WireFilter {
    private struct Step {
        var code: Int
        var value: UInt32
        /// Of a jump: labels; "" is the next step.
        var yes = "", no = ""
        var label = ""
    }

    static func bytecode(_ losses: [WireLoss]) -> String {
        var steps: [Step] = []
        for (index, loss) in losses.enumerated() { steps += block(loss, "\(index)", next: "\(index + 1)") }
        // TC_ACT_UNSPEC: whatever else is there is asked.
        steps.append(Step(code: 0x06, value: .max, label: "\(losses.count)"))
        steps.append(Step(code: 0x06, value: 2, label: "drop"))
        let places = Dictionary(steps.enumerated().filter { !$1.label.isEmpty }.map { ($1.label, $0) }) { first, _ in first }
        func offset(_ label: String, _ from: Int) -> Int { label.isEmpty ? 0 : (places[label] ?? from + 1) - from - 1 }
        let text = steps.enumerated().map { at, step in
            "\(step.code) \(offset(step.yes, at)) \(offset(step.no, at)) \(step.value)"
        }
        return "\(steps.count),\(text.joined(separator: ","))"
    }

    private static func block(_ loss: WireLoss, _ name: String, next: String) -> [Step] {
        func load(_ size: Int, _ at: UInt32, _ label: String = "") -> Step {
            Step(code: size == 1 ? 0x30 : size == 2 ? 0x28 : 0x20, value: at, label: label)
        }
        func equal(_ value: UInt32, _ yes: String, else no: String = "") -> Step { Step(code: 0x15, value: value, yes: yes, no: no) }
        switch loss {
        case .everything: return [Step(code: 0x06, value: 2, label: name)]
        case .some(let percent):
            // SKF_AD_OFF + SKF_AD_RANDOM
            return [
                load(4, 0xffff_f038, name),
                Step(code: 0x35, value: UInt32(max(0, 100 - percent)) * 42_949_672, yes: "drop", no: next),
            ]
        case .ike, .esp:
            let (ike, esp) = loss == .ike ? ("drop", next) : (next, "drop")
            func family(_ label: String, proto: UInt32, l4: UInt32) -> [Step] {
                [
                    load(1, proto, label), equal(50, esp), equal(17, "", else: next),
                    load(2, l4), equal(500, ike), equal(4500, "\(label)m"),
                    load(2, l4 + 2), equal(500, ike), equal(4500, "\(label)m", else: next),
                    load(4, l4 + 8, "\(label)m"), equal(0, ike, else: esp),
                ]
            }
            return [load(2, 12, name), equal(0x0800, "\(name)v4"), equal(0x86dd, "\(name)v6", else: next)]
                + family("\(name)v4", proto: 23, l4: 34) + family("\(name)v6", proto: 20, l4: 54)
        }
    }
}
