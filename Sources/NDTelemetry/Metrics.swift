import CNDABI

extension Snapshot {
    /// The text that /metrics answers with.
    public static func render(_ snapshot: Snapshot) -> String { Exposition.render(snapshot.families) }

    public var families: [MetricFamily] {
        info + interfaceMetrics + traffic + flowMetrics + peerMetrics + keyingMetrics + health
    }

    private typealias Label = MetricFamily.Label
    private typealias Sample = MetricFamily.Sample

    private func counter(_ name: String, _ help: String, _ value: UInt64) -> MetricFamily {
        MetricFamily("ndbpf_\(name)_total", .counter, help, [Sample(Double(value))])
    }

    private func gauge(_ name: String, _ help: String, _ value: UInt64) -> MetricFamily {
        MetricFamily("ndbpf_\(name)", .gauge, help, [Sample(Double(value))])
    }

    /// Label sets come sorted, and never more than a bounded number.
    private func samples(_ values: [String: UInt64], by label: String) -> [Sample] {
        let sorted = values.sorted { $0.key < $1.key }
        let rest = sorted.dropFirst(63)
        var result = sorted.prefix(63).map { Sample(Double($0.value), [Label(label, $0.key)]) }
        if !rest.isEmpty {
            result.append(Sample(Double(rest.reduce(0) { $0 &+ $1.value }), [Label(label, "other")]))
        }
        return result
    }

    private var info: [MetricFamily] {
        let labels = [
            Label("version", build.version), Label("engine", build.engine), Label("scenario", build.scenario),
        ]
        var result = [MetricFamily("ndbpf_build_info", .gauge, "What runs; the value is always 1.", [Sample(1, labels)])]
        if startedAtUnixSeconds > 0 {
            result.append(
                MetricFamily(
                    "ndbpf_start_time_seconds", .gauge, "When the daemon started, seconds since 1970.",
                    [Sample(startedAtUnixSeconds)]))
        }
        return result + [gauge("policy_generation", "Generation of the policy in force.", policyGeneration)]
    }

    private var interfaceMetrics: [MetricFamily] {
        var seen: Set<[String]> = []
        return [
            MetricFamily(
                "ndbpf_interface_protected", .gauge,
                "1: ndbpf's program of the interface's role stands before all others; 0: it does not.",
                interfaces.filter { seen.insert([$0.name, $0.role]).inserted }.map {
                    Sample($0.isInPlace ? 1 : 0, [Label("interface", $0.name), Label("role", $0.role)])
                }),
            counter("interfaces_put_right", "Times that a program stood where it has to again after it did not.", interfacesPutRight),
            counter("interface_reads_failed", "Times that the list of interfaces could not be read.", interfaceReadsFailed),
        ]
    }

    private var traffic: [MetricFamily] {
        // One split of every packet that passed: direction, and what protected it or why nothing had to.
        func passed(_ values: [UInt64]) -> [Sample] {
            zip(Lists.passKinds, values).map { kind, value in
                let words = kind.label.split(separator: "_", maxSplits: 1).map(String.init)
                return Sample(
                    Double(value), [Label("direction", words.first ?? ""), Label("traffic", words.last ?? "")])
            }
        }
        func dropped(_ values: [UInt64]) -> [Sample] {
            zip(Lists.dropReasons, values).map { Sample(Double($1), [Label("reason", $0.label)]) }
        }
        return [
            MetricFamily(
                "ndbpf_packets_total", .counter,
                "Packets that passed, by direction and protection, or the reason why they need none.",
                passed(datapath.passedPackets)),
            MetricFamily(
                "ndbpf_bytes_total", .counter,
                "IP bytes that passed, by direction and protection, or the reason why they need none.",
                passed(datapath.passedBytes)),
            MetricFamily(
                "ndbpf_dropped_packets_total", .counter, "Packets dropped, by reason.",
                dropped(datapath.droppedPackets)),
            MetricFamily(
                "ndbpf_dropped_bytes_total", .counter, "IP bytes dropped, by reason.",
                dropped(datapath.droppedBytes)),
            MetricFamily(
                "ndbpf_discards_total", .counter, "Packets dropped by filters where payload is shown, by layer.",
                zip(Lists.layers, datapath.discards).filter { Self.discarding.contains($0.0.label) }.map {
                    Sample(Double($1), [Label("layer", $0.label.lowercased())])
                }),
            counter("callouts_asked", "Packets shown to callouts' programs.", datapath.calloutsAsked),
            counter(
                "callouts_overridden", "Blocks of callouts overridden because ALE must classify the packet.",
                datapath.calloutsOverridden),
            counter("callouts_missing", "Packets for whose callout no program answered.", datapath.calloutsMissing),
        ]
    }

    private static let discarding: Set<String> = ["STREAM", "DATAGRAM_DATA", "INBOUND_IPPACKET", "OUTBOUND_IPPACKET"]

    private var flowMetrics: [MetricFamily] {
        [
            MetricFamily(
                "ndbpf_flows", .gauge, "Connections in the flow table, by state.",
                [
                    Sample(Double(flows.clear), [Label("state", "clear")]),
                    Sample(Double(flows.secure), [Label("state", "secure")]),
                    Sample(Double(flows.exempt), [Label("state", "exempt")]),
                ]),
            MetricFamily(
                "ndbpf_table_entries", .gauge, "Entries in the tables that grow with connections.",
                tables.map { Sample(Double($0.entries), [Label("table", $0.name)]) }),
            MetricFamily(
                "ndbpf_table_size", .gauge, "Entries that they have room for.",
                tables.map { Sample(Double($0.size), [Label("table", $0.name)]) }),
            counter("flows_created", "Entries made in the flow table.", datapath.flowsCreated),
            counter("flow_upgrades", "Clear connections that became protected.", datapath.upgrades),
            counter("secured_full", "Secured connections that found no room in their table.", datapath.securedFull),
            counter(
                "guarded_packets", "Packets of secured connections that met the guard of an interface that is not protected.",
                datapath.guarded),
            counter(
                "address_failures", "Reads of this host's addresses that failed: the last ones stayed in force.",
                addressFailures),
        ]
    }

    private var peerMetrics: [MetricFamily] {
        let states = Lists.peerStates.map {
            Sample(Double(peers[$0.label] ?? 0), [Label("state", $0.label)])
        }
        return [
            MetricFamily("ndbpf_peers", .gauge, "Peers known, by state.", states),
            counter("peers_lost", "Peers whose last SA went.", peersLost),
            gauge("negotiations_running", "Key negotiations under way.", negotiationsRunning),
            counter("negotiations_started", "Key negotiations started by this host.", negotiationsStarted),
            counter("negotiations_succeeded", "Key negotiations that ended with an SA pair.", negotiationsSucceeded),
            MetricFamily(
                "ndbpf_negotiations_failed_total", .counter, "Key negotiations that failed, by reason.",
                samples(negotiationsFailed, by: "reason")),
            counter(
                "negotiations_over_budget", "Peers left clear because too many negotiations ran.",
                negotiationsOverBudget),
            counter("negative_cache_hits", "Requests that the negative cache answered.", negativeCacheHits),
            MetricFamily(
                "ndbpf_first_packets_total", .counter, "Stored first packets, by what became of them.",
                samples(replays, by: "result")),
        ]
    }

    private var keyingMetrics: [MetricFamily] {
        [
            MetricFamily(
                "ndbpf_security_associations", .gauge, "ESP SAs installed, by direction.",
                [
                    Sample(Double(inboundSAs), [Label("direction", "in")]),
                    Sample(Double(outboundSAs), [Label("direction", "out")]),
                ]),
            counter("rekeys", "SA pairs replaced before they expired.", rekeys),
            counter("ike_datagrams_received", "IKE datagrams received.", ikeReceived),
            counter("ike_datagrams_sent", "IKE datagrams sent.", ikeSent),
            MetricFamily(
                "ndbpf_ike_datagrams_dropped_total", .counter, "IKE datagrams not processed, by reason.",
                samples(ikeDrops, by: "reason")),
        ]
    }

    private var health: [MetricFamily] {
        [
            counter("events_lost", "Events that found the ring buffer full.", datapath.eventsLost),
            counter("peer_table_full", "Packets whose peer found no room in the peer table.", datapath.peersFull),
            counter("mss_clamped", "TCP handshake packets whose MSS was lowered.", datapath.mssClamped),
            counter("oversize", "Packets that ESP would have made larger than the path.", datapath.oversize),
        ]
    }
}
