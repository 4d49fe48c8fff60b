import ArgumentParser
import Foundation
import Logging
import NDCore
import NDDaemon
import NDDatapath
import NDEngine
import NDPolicy
import NDTelemetry
import ServiceLifecycle

struct DatapathOptions: ParsableArguments {
    @Option(help: "The policy file.")
    var policy = "/etc/ndbpf/policy.yaml"

    @Option(name: [.customLong("interface"), .customShort("i")], help: "Interface to protect (a name, a pattern with * or ?, all, default-route) instead of the policy's; may be repeated.")
    var interfaces: [String] = []

    @Option(help: "Connections that are remembered, 1024 to 16777216; without it the policy's, or by the host's memory.")
    var flows: UInt32?

    @Option(help: "Secured connections that are remembered, 64 to 16777216; without it as --flows.")
    var secured: UInt32?

    @Option(help: "Peers that are remembered, 64 to 1048576; without it the policy's, or by the host's memory.")
    var peers: UInt32?

    @Flag(help: "Attach with clsact even where the kernel has TCX.")
    var clsact = false

    func validate() throws {
        for (name, value, range) in [
            ("--flows", flows, TableSizes.flowsRange), ("--secured", secured, TableSizes.securedRange),
            ("--peers", peers, TableSizes.peersRange),
        ] {
            if let value, !range.contains(value) {
                throw ValidationError("\(name) is \(range.lowerBound) to \(range.upperBound)")
            }
        }
    }

    var tables: TableSizeChoice { TableSizeChoice(flows: flows, secured: secured, peers: peers) }
}

struct Load: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Load the BPF programs, attach them and pin everything.",
        discussion:
            "The datapath enforces from then on, with or without a daemon: new clear inbound flows are dropped as the policy says.")

    @OptionGroup var options: GlobalOptions
    @OptionGroup var datapath: DatapathOptions

    func run() throws {
        let instance = try Instance(options.instance)
        let policy = try Policy.load(path: datapath.policy, reading: PolicyCommit.reading)
        if try Upgrade.due(instance) != nil { return try upgrade(instance, policy) }
        let ready = try PolicyCommit(policy, generation: 1)
        var load = LoadOptions(interfaces: datapath.interfaces.isEmpty ? policy.interfaces : datapath.interfaces)
        load.tables = datapath.tables.or(policy.tables.choice)
        load.forceClsact = datapath.clsact
        var record = try Loader.load(instance, policy: ready.image, callouts: ready.callouts, options: load)
        record.policyFile = datapath.policy
        record.networkNamespace = options.netns
        try record.write(instance)
        if options.json {
            print(try JSONOutput.text("load", record))
            return
        }
        for attachment in record.attachments {
            print("attached to \(attachment.interface) \(attachment.direction) by \(attachment.kind)\(attachment.role == .guarded ? ", a guard" : "")")
        }
        if let why = record.missingHooks { print("note: a device that comes while no daemon runs is not guarded: \(why)") }
        print("loaded instance \(instance.name), pinned under \(instance.pinDirectory)")
        print("next: ndbpf run --policy \(datapath.policy)\(instance.name == "default" ? "" : " --instance \(instance.name)")")
    }

    private func upgrade(_ instance: Instance, _ policy: Policy) throws {
        // A daemon of another version would write into maps that nobody reads any more.
        let lock = try DaemonLock.take(instance)
        defer { close(lock) }
        var load = LoadOptions(interfaces: datapath.interfaces.isEmpty ? policy.interfaces : datapath.interfaces)
        load.tables = datapath.tables.or(policy.tables.choice)
        load.forceClsact = datapath.clsact
        var record = try Upgrade.run(instance, options: load) { try PolicyCommit.apply(policy, to: $0) }
        record.policyFile = datapath.policy
        if let netns = options.netns { record.networkNamespace = netns }
        try record.write(instance)
        if options.json {
            print(try JSONOutput.text("load", record))
            return
        }
        if let before = record.tookOver {
            print(
                "took over \(before.securedFlows) secured flows, \(before.clearFlows) clear ones and \(before.peers) peers of a version with ABI \(before.abi); its programs are replaced")
        }
        print("next: ndbpf run --policy \(datapath.policy)\(instance.name == "default" ? "" : " --instance \(instance.name)")")
    }
}

struct Unload: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Take back everything that load and run did: programs, pins, nd0.",
        discussion:
            "Refuses while secured connections are open, names them and changes nothing: their packets would leave in clear. A new version needs no unload: `ndbpf load` takes over what is loaded.")

    @OptionGroup var options: GlobalOptions

    @Flag(help: "Unload even if secured connections are open: their packets leave in clear from then on.")
    var force = false

    struct Refused: Encodable {
        var count: Int
        /// At most 20, the ones last seen first.
        var connections: [OpenConnection]
    }

    func run() throws {
        let instance = try Instance(options.instance)
        guard instance.isLoaded || LoadRecord.read(instance) != nil else {
            throw NDError(
                "instance.not-loaded", "instance '\(instance.name)' is not loaded", hint: "nothing was changed")
        }
        let lock = try DaemonLock.take(instance)
        defer { close(lock) }
        // In the namespace that is gone its device went too.
        let abandoned = try instance.residence() == .abandoned
        if !force {
            let open = try Loader.openConnections(instance)
            if !open.isEmpty {
                if options.json {
                    print(
                        try JSONOutput.text(
                            "openConnections", Refused(count: open.count, connections: Array(open.prefix(OpenConnections.named)))))
                }
                throw Loader.refusal(instance, open)
            }
        }
        let record = try Loader.unload(instance)
        let device = abandoned ? false : record.device.map { EngineDevice.remove($0) } ?? false
        DaemonLock.removeDirectory(instance)
        if options.json {
            print(try JSONOutput.text("unload", record))
        } else {
            print(
                "unloaded instance \(instance.name)\(device ? ", removed \(record.device ?? "")" : ""): traffic is as without ndbpf")
        }
    }
}

struct Run: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run the daemon; loads the datapath first where it is not loaded.",
        discussion:
            "When it stops the datapath stays and enforces: secured connections never fall back to clear. `ndbpf unload` takes it away.")

    @OptionGroup var options: GlobalOptions
    @OptionGroup var datapath: DatapathOptions

    @Option(help: "Name of the device that encrypts.")
    var device = "nd0"

    @Flag(help: "Unload when the daemon stops, unless secured connections are open.")
    var unloadOnExit = false

    @Option(help: "Log level: trace, debug, info, notice, warning, error.")
    var logLevel: String = "info"

    @Option(help: "Write keys to this file, for a packet dissector. Whoever reads it can decrypt.")
    var debugKeyLog: String?

    func validate() throws {
        guard Logger.Level(rawValue: logLevel) != nil else {
            throw ValidationError("--log-level is trace, debug, info, notice, warning or error")
        }
    }

    func run() async throws {
        LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
        var log = Logger(label: "ndbpf")
        log.logLevel = Logger.Level(rawValue: logLevel) ?? .info
        guard geteuid() == 0 else {
            throw NDError("run.permission", "the daemon needs root", hint: "run with sudo, or as a service")
        }
        var daemonOptions = DaemonOptions(
            instance: try Instance(options.instance), policyFile: datapath.policy, version: ndbpfVersion)
        daemonOptions.interfaces = datapath.interfaces
        daemonOptions.tables = datapath.tables
        daemonOptions.forceClsact = datapath.clsact
        daemonOptions.unloadOnExit = unloadOnExit
        daemonOptions.keyLogFile = debugKeyLog
        daemonOptions.device = device
        daemonOptions.networkNamespace = options.netns
        let daemon = try Daemon(daemonOptions, log: log)
        let services = ServiceGroup(
            services: [daemon], gracefulShutdownSignals: [.sigterm, .sigint], logger: log)
        try await services.run()
    }
}
