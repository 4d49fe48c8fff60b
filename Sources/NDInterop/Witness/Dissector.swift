import Foundation
import NDCore
import NDLab

/// tshark with the other side's keys: an independent reader of what was on the wire.
enum Dissector {
    /// How many packets of each SPI decrypted to a TCP segment of the echo server's port and had the
    /// right integrity check value where tshark can check it.
    static func decrypted(capture: String, keys: [KernelState]) throws -> [UInt32: Int] {
        var command = [
            "tshark", "-n", "-r", capture, "-Y", "esp && tcp", "-T", "fields", "-E", "occurrence=f", "-e", "esp.spi", "-e",
            "tcp.srcport", "-e", "tcp.dstport", "-e", "esp.icv_bad", "-o", "esp.enable_encryption_decode:TRUE", "-o",
            "esp.enable_authentication_check:TRUE",
        ]
        for state in Set(keys) { command += ["-o", state.dissectorOption] }
        let output = try Shell.capture(command)
        guard output.status == 0 else {
            throw NDError("interop.tshark", "tshark failed with \(output.status)", context: String(output.text.prefix(1000)))
        }
        var counts: [UInt32: Int] = [:]
        for line in output.text.split(separator: "\n") {
            let fields = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
            guard fields.count >= 3, fields[0].hasPrefix("0x"), let spi = UInt32(fields[0].dropFirst(2), radix: 16),
                fields[1] == "\(Servers.echoPort)" || fields[2] == "\(Servers.echoPort)",
                fields.count < 4 || !(fields[3] == "1" || fields[3] == "True")
            else { continue }
            counts[spi, default: 0] += 1
        }
        return counts
    }
}
