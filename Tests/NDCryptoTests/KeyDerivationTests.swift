import Foundation
import NDCore
import NDCrypto
import Testing

@Suite struct KeyDerivationTests {
    static let vectors = VectorFile(
        (try? String(
            contentsOf: URL(fileURLWithPath: #filePath).deletingLastPathComponent()
                .appendingPathComponent("Fixtures/ikev1-kdf.txt"), encoding: .utf8)) ?? "")

    @Test func `the published cases are all there`() {
        #expect(Self.vectors.cases.count == 8)
    }

    @Test(arguments: vectors.cases.keys.filter { $0.hasPrefix("ikev1-psk") || $0.hasPrefix("ikev1-sig") }.sorted())
    func `SKEYID and its children equal the published values`(name: String) throws {
        let v = try #require(Self.vectors.cases[name])
        func bytes(_ field: String) throws -> [UInt8] { hex(try #require(v[field], "\(name) \(field)")) }
        let hash = try #require(
            HashAlgorithm.allCases.first { name.split(separator: "-").dropFirst(2).first.map(String.init) == $0.rawValue })
        // Some published cases stop at SKEYID.
        let complete = v["gxy"] != nil
        let shared = SecretBytes(complete ? try bytes("gxy") : [])
        let cookies = complete ? try bytes("CKY_I") + bytes("CKY_R") : []
        let keys =
            name.contains("psk")
            ? try ISAKMPKeys(
                hash: hash, preSharedKey: SecretBytes(try bytes("psk")), initiatorNonce: try bytes("Ni"),
                responderNonce: try bytes("Nr"), sharedSecret: shared, cookies: cookies)
            : try ISAKMPKeys(
                hash: hash, signatureInitiatorNonce: try bytes("Ni"), responderNonce: try bytes("Nr"),
                sharedSecret: shared, cookies: cookies)
        #expect(plain(keys.skeyid) == (try bytes("SKEYID")))
        guard complete else { return }
        #expect(plain(keys.skeyidD) == (try bytes("SKEYID_d")))
        #expect(plain(keys.skeyidA) == (try bytes("SKEYID_a")))
        #expect(plain(keys.skeyidE) == (try bytes("SKEYID_e")))
    }

    @Test func `a key longer than SKEYID_e is stretched`() throws {
        let v = try #require(Self.vectors.cases["ikev1-keyexpand-sha1"])
        let key = try ISAKMPKeys.expand(
            hash: .sha1, skeyidE: SecretBytes(hex(try #require(v["SKEYID_e"]))), bytes: 32)
        #expect(plain(key) == hex(try #require(v["Ka"])))
    }

    private func plain(_ secret: SecretBytes) -> [UInt8] { secret.withUnsafeBytes { Array($0) } }
}
