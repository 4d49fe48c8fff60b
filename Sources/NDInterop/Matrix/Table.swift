import NDCore

/// docs/interop.md, made from what the guests saw.
public enum InteropTable {
    public static func markdown(_ results: [MatrixResult]) -> String {
        var lines = [
            "# Interoperability", "",
            "Made by `ndinterop matrix --markdown docs/interop.md`; do not edit. `make guest-test` runs the same",
            "matrix and fails on a cell that fails or is missing here.", "",
            "ndbpf and the peer live in network namespaces of one guest, one wire between them. Each cell is a new",
            "IKEv1 main mode and quick mode with a pre-shared key, a TCP echo of 4 KiB both ways, a rekey by each",
            "side with the connection open, and a delete by the side that started. A packet socket on the peer's",
            "interface counts ESP; tshark decrypts the capture with the keys of the peer's kernel (`ip xfrm state`).", "",
        ]
        for result in results {
            let versions = result.versions.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
            lines.append(
                "- Linux \(result.kernel): engine `\(result.engine)` against the peer's kernel ESP; \(versions.joined(separator: ", "))")
        }
        lines += ["", "## New connection, no SA yet", "", "connect() to a peer that drops what is in clear, median.", ""]
        lines += header(["from, to"] + results.map { "Linux \($0.kernel)" })
        var names: [String] = []
        for name in results.flatMap({ $0.coldConnects.map(\.name) }) where !names.contains(name) { names.append(name) }
        for name in names {
            let cells = results.map { result in
                result.coldConnects.first { $0.name == name }.map { "\(Int($0.median)) ms" } ?? "failed"
            }
            lines.append(row([name] + cells))
        }
        lines += ["", "## Checks", ""]
        lines += header(["check"] + results.map { "Linux \($0.kernel)" })
        var checks: [String] = []
        for name in results.flatMap({ $0.checks.map(\.name) }) where !checks.contains(name) { checks.append(name) }
        for name in checks {
            lines.append(
                row([name] + results.map { result in result.checks.first { $0.name == name }?.outcome.mark ?? "-" }))
        }
        lines += [
            "", "## Matrix", "",
            "Started by: who sends main mode message 1. A kernel's columns: ESP packets counted on the wire, how many",
            "of them tshark decrypted, rekeys by ndbpf and by the peer.", "",
        ]
        lines += header(
            ["peer", "started by", "suite", "IP", "ESP"]
                + results.flatMap { ["\($0.kernel) ESP", "decrypted", "rekeys", "passed"] })
        for cell in allCells(results) {
            var columns = cell
            for result in results {
                guard let found = result.cells.first(where: { key($0) == cell }) else {
                    columns += ["-", "-", "-", "-"]
                    continue
                }
                let rekeys = [CellResult.Step.rekeyByNDBPF, .rekeyByPeer].map { found.steps[$0.rawValue]?.mark ?? "-" }
                columns += [
                    "\(found.espPackets)", found.decrypted.map { "\($0)" } ?? "-", rekeys.joined(separator: ", "),
                    found.failures.isEmpty ? "yes" : "NO",
                ]
            }
            lines.append(row(columns))
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// The first five columns of every row of the matrix: what the committed table is compared by.
    public static func cells(in markdown: String) -> Set<[String]> {
        let rows = markdown.split(separator: "\n").filter { $0.hasPrefix("| strongSwan |") || $0.hasPrefix("| libreswan |") }
        return Set(
            rows.map { row in
                Array(
                    row.split(separator: "|").prefix(5).map {
                        $0.drop(while: { $0 == " " }).reversed().drop(while: { $0 == " " }).reversed()
                    }.map { String($0) })
            })
    }

    public static func cells(_ results: [MatrixResult]) -> Set<[String]> { Set(allCells(results)) }

    private static func allCells(_ results: [MatrixResult]) -> [[String]] {
        var cells: [[String]] = []
        for cell in results.flatMap({ $0.cells.map(key) }) where !cells.contains(cell) { cells.append(cell) }
        return cells.sorted { $0.lexicographicallyPrecedes($1) }
    }

    private static func key(_ cell: CellResult) -> [String] {
        [
            cell.peer.rawValue, cell.role == .ndbpf ? "ndbpf" : "peer", cell.suite,
            cell.family == "ipv4" ? "IPv4" : "IPv6", cell.encapsulation == .native ? "native" : "UDP",
        ]
    }

    private static func row(_ columns: [String]) -> String { "| " + columns.joined(separator: " | ") + " |" }

    private static func header(_ columns: [String]) -> [String] { [row(columns), row(columns.map { _ in "---" })] }
}
