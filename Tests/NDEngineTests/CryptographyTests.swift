import CESP
import NDCore
import Testing

@testable import NDEngine

/// Runs one op; the layout is header | IV | data | ICV, as in a packet.
private func run(
    _ context: OpaquePointer, seal: Bool, header: [UInt8], iv: [UInt8], data: [UInt8], icv: [UInt8] = [], aad: [UInt8]
) -> (ok: Bool, data: [UInt8], icv: [UInt8], iv: [UInt8]) {
    var bytes = header + iv + data + (icv.isEmpty ? [UInt8](repeating: 0, count: 16) : icv)
    var op = nd_esp_op()
    withUnsafeMutableBytes(of: &op.aad) { $0.copyBytes(from: aad) }
    op.aad_length = UInt32(aad.count)
    op.length = UInt32(data.count)
    let at = header.count
    bytes.withUnsafeMutableBytes { raw in
        let p = raw.baseAddress!.assumingMemoryBound(to: UInt8.self)
        op.iv = p + at
        op.data = p + at + iv.count
        op.icv = p + at + iv.count + data.count
        seal ? nd_aead_seal(context, &op, 1) : nd_aead_open(context, &op, 1)
    }
    let d = at + iv.count
    return (op.ok, Array(bytes[d..<(d + data.count)]), Array(bytes[(d + data.count)...]), Array(bytes[at..<d]))
}

private func new(_ kind: nd_aead_kind, _ library: nd_aead_library, seal: Bool, _ keymat: [UInt8], _ bits: Int) -> OpaquePointer? {
    nd_aead_new(kind, library, seal, keymat, UInt32(bits))
}

private struct GCMVector: CustomTestStringConvertible {
    var name: String
    var key: String
    /// Salt, then IV.
    var nonce: String
    var aad: String
    var plain: String
    var cipher: String
    var icv: String
    var testDescription: String { name }
}

private let gcmText =
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"

/// All checked against Python's `cryptography` as well.
private let gcmVectors = [
    GCMVector(
        name: "GCM specification, test case 2", key: "00000000000000000000000000000000", nonce: "000000000000000000000000",
        aad: "", plain: "00000000000000000000000000000000", cipher: "0388dace60b6a392f328c2b971b2fe78",
        icv: "ab6e47d42cec13bdf53a67b21257bddf"),
    GCMVector(
        name: "GCM specification, test case 3", key: "feffe9928665731c6d6a8f9467308308", nonce: "cafebabefacedbaddecaf888",
        aad: "", plain: gcmText,
        cipher: "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985",
        icv: "4d5c2af327cd64a62cf35abd2ba6fab4"),
    GCMVector(
        name: "GCM specification, test case 14", key: "0000000000000000000000000000000000000000000000000000000000000000",
        nonce: "000000000000000000000000", aad: "", plain: "00000000000000000000000000000000",
        cipher: "cea7403d4d606b6e074ec5d3baf39d18", icv: "d0d1c8a799996bf0265b98b5d48ab919"),
    GCMVector(
        name: "GCM specification, test case 15", key: "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        nonce: "cafebabefacedbaddecaf888", aad: "", plain: gcmText,
        cipher: "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
        icv: "b094dac5d93471bdec1a502270e3cc6c"),
    GCMVector(
        name: "draft-mcgrew-gcm-test-01, 128 bits with ESN", key: "4c80cdefbb5d10da906ac73c3613a634",
        nonce: "2e443b684956ed7e3b244cfe", aad: "000043218765432100000000",
        plain: "45000048699a000080114db7c0a80102c0a801010a9bf15638d301000001000000000000045f736970045f756470037369700963796265726369747902646b000021000101020201",
        cipher: "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce61bc17d768fd9732",
        icv: "459018148f6cbe722fd04796562dfdb4"),
    GCMVector(
        name: "draft-mcgrew-gcm-test-01, 192 bits", key: "feffe9928665731c6d6a8f9467308308feffe9928665731c",
        nonce: "cafebabefacedbaddecaf888", aad: "0000a5f80000000a",
        plain: "45000028a4ad4000400678800a01038f0a010612802306b8cb712602dd6bb03e501016d075680001",
        cipher: "a5b1f8066029aea40e598b8122de02420938b3ab33f828e687b8858b5bfbdbd0315b27452144cc77",
        icv: "95457b9652037f5318027b5b4cd7a636"),
    GCMVector(
        name: "draft-mcgrew-gcm-test-01, 256 bits", key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab",
        nonce: "112233440102030405060708", aad: "4a2cbfe300000002",
        plain: "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b40101040201020201",
        cipher: "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99def842d8eb335f4eecfdbf831824b4c49",
        icv: "15956c96"),
]

struct CryptographyTests {
    @Test("AES-GCM seals and opens the published vectors with either library", arguments: gcmVectors)
    fileprivate func gcmVector(_ v: GCMVector) throws {
        let key = hex(v.key)
        let nonce = hex(v.nonce)
        let libraries = nd_ipsec_mb_usable() ? [ND_AEAD_OPENSSL, ND_AEAD_IPSEC_MB] : [ND_AEAD_OPENSSL]
        for library in libraries {
            let sealing = try #require(new(ND_AEAD_GCM, library, seal: true, key + nonce[0..<4], key.count * 8))
            let opening = try #require(new(ND_AEAD_GCM, library, seal: false, key + nonce[0..<4], key.count * 8))
            defer { nd_aead_free(sealing); nd_aead_free(opening) }
            let iv = Array(nonce[4...])
            let sealed = run(sealing, seal: true, header: [], iv: iv, data: hex(v.plain), aad: hex(v.aad))
            // The draft's 256-bit case prints the data as 48 + 4 bytes and its ICV behind that.
            let expected = hex(v.cipher + v.icv)
            #expect(sealed.ok)
            #expect((sealed.data + sealed.icv).starts(with: expected))
            let opened = run(opening, seal: false, header: [], iv: iv, data: sealed.data, icv: sealed.icv, aad: hex(v.aad))
            #expect(opened.ok)
            #expect(opened.data == hex(v.plain))
        }
    }

    /// Keys, IVs, plaintext and ciphertext: RFC 3602 §4 cases 1 to 4. The ICVs (HMAC key 40…5f, SPI
    /// 0x8765, sequence number 1; the second with ESN high bits 7) were computed with Python's hmac.
    @Test(
        "AES-CBC opens the RFC 3602 vectors, without and with ESN",
        arguments: [
            (
                "06a9214036b8a15b512e03d534120006", "3dafba429d9eb430b422da802c9fac41", "e353779c1079aeb82708942dbe77181a",
                "53696e676c6520626c6f636b206d7367", "8666f32a2dc3ff6df3bea2a24480654d", "ea55cb9fb8a0bbb782b721139485b1d5"
            ),
            (
                "c286696d887c9aa0611bbb3e2025a45a", "562e17996d093d28ddb3ba695a2e6f58",
                "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1",
                "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "3222e6b21bdb0f50f8264c785efb5eaa",
                "6b853399c5fa15d360119e4488131591"
            ),
            (
                "6c3ea0477630ce21a2ce334aa746c2cd", "c782dc4c098c66cbd9cd27d825682c81",
                "d0a02b3836451753d493665d33f0e8862dea54cdb293abc7506939276772f8d5021c19216bad525c8579695d83ba2684",
                "5468697320697320612034382d62797465206d657373616765202865786163746c7920332041455320626c6f636b7329",
                "4acacf77927b9840db95c6d14cc365be", "52c299823431207c43a91aa8b62bf0cb"
            ),
            (
                "56e47a38c5598974bc46903dba290349", "8ce82eefbea0da3c44699ed7db51b7d9",
                "c30e32ffedc0774e6aff6af0869f71aa0f3af07a9a31a9c684db207eb0ef8e4e35907aa632c3ffdf868bb7b29d3d46ad83ce9f9a102ee99d49a53e87f4c3da55",
                "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf",
                "2425ab396e2113869f5e261c03a6edd5", "43318ea2f8b02aef1a6abbb15419f151"
            ),
        ])
    func cbcVector(_ key: String, _ iv: String, _ cipher: String, _ plain: String, _ icv: String, _ icvESN: String) throws {
        let keymat = hex(key) + (0x40..<0x60).map { UInt8($0) }
        let context = try #require(new(ND_AEAD_CBC_SHA256, ND_AEAD_OPENSSL, seal: false, keymat, 128))
        defer { nd_aead_free(context) }
        let header = hex("0000876500000001")
        let short = run(context, seal: false, header: header, iv: hex(iv), data: hex(cipher), icv: hex(icv), aad: header)
        #expect(short.ok)
        #expect(short.data == hex(plain))
        let long = run(
            context, seal: false, header: header, iv: hex(iv), data: hex(cipher), icv: hex(icvESN),
            aad: hex("000087650000000700000001"))
        #expect(long.ok)
        #expect(long.data == hex(plain))
        #expect(!run(context, seal: false, header: header, iv: hex(iv), data: hex(cipher), icv: hex(icv), aad: hex("000087650000000700000001")).ok)
    }

    /// A key shorter than the block is the same key with zeros behind it, and the 28 bytes are
    /// SPI | sequence | IV | high bits of an empty packet.
    @Test("HMAC-SHA-256 of the CBC suite is that of RFC 4231, test case 2")
    func hmacVector() throws {
        let keymat = [UInt8](repeating: 1, count: 16) + Array("Jefe".utf8) + [UInt8](repeating: 0, count: 28)
        let context = try #require(new(ND_AEAD_CBC_SHA256, ND_AEAD_OPENSSL, seal: false, keymat, 128))
        defer { nd_aead_free(context) }
        let text = Array("what do ya want for nothing?".utf8)
        let aad = text[0..<4] + text[24..<28] + text[4..<8]
        let icv = hex("5bdcc146bf60754e6a042426089575c7")
        #expect(run(context, seal: false, header: Array(text[0..<8]), iv: Array(text[8..<24]), data: [], icv: icv, aad: Array(aad)).ok)
        #expect(!run(context, seal: false, header: Array(text[0..<8]), iv: Array(text[8..<24]), data: [], icv: icv.reversed(), aad: Array(aad)).ok)
    }

    @Test("OpenSSL and ipsec-mb seal to the same bytes and open each other's packets")
    func librariesAgree() throws {
        guard nd_ipsec_mb_usable() else { return }
        var random = Seeded(1)
        var differences: [String] = []
        for bits in [128, 256] {
            let keymat = random.bytes(bits / 8 + 4)
            let contexts = try [(ND_AEAD_OPENSSL, true), (ND_AEAD_IPSEC_MB, true), (ND_AEAD_OPENSSL, false), (ND_AEAD_IPSEC_MB, false)]
                .map { try #require(new(ND_AEAD_GCM, $0.0, seal: $0.1, keymat, bits)) }
            defer { for context in contexts { nd_aead_free(context) } }
            for length in 1...2000 {
                for aadLength in [8, 12] {
                    let (iv, aad, plain) = (random.bytes(8), random.bytes(aadLength), random.bytes(length))
                    let a = run(contexts[0], seal: true, header: [], iv: iv, data: plain, aad: aad)
                    let b = run(contexts[1], seal: true, header: [], iv: iv, data: plain, aad: aad)
                    if !a.ok || !b.ok || a.data != b.data || a.icv != b.icv { differences.append("seal \(bits) \(length) \(aadLength)") }
                    let c = run(contexts[2], seal: false, header: [], iv: iv, data: b.data, icv: b.icv, aad: aad)
                    let d = run(contexts[3], seal: false, header: [], iv: iv, data: a.data, icv: a.icv, aad: aad)
                    if !c.ok || !d.ok || c.data != plain || d.data != plain { differences.append("open \(bits) \(length) \(aadLength)") }
                    var wrong = a.icv
                    wrong[random.below(16)] ^= 1 << UInt8(random.below(8))
                    if run(contexts[3], seal: false, header: [], iv: iv, data: a.data, icv: wrong, aad: aad).ok {
                        differences.append("forged \(bits) \(length) \(aadLength)")
                    }
                }
            }
        }
        #expect(differences == [])
    }

    @Test("CBC never repeats an IV and no two contexts share their IVs")
    func cbcIVs() throws {
        let keymat = [UInt8](repeating: 9, count: 48)
        var seen: Set<[UInt8]> = []
        for _ in 0..<2 {
            let context = try #require(new(ND_AEAD_CBC_SHA256, ND_AEAD_OPENSSL, seal: true, keymat, 128))
            defer { nd_aead_free(context) }
            for _ in 0..<2000 {
                let header = [UInt8](repeating: 0, count: 8)
                seen.insert(run(context, seal: true, header: header, iv: [UInt8](repeating: 0, count: 16), data: [UInt8](repeating: 0, count: 16), aad: header).iv)
            }
        }
        #expect(seen.count == 4000)
    }

    @Test("A key length that AES does not have is refused")
    func wrongKeyLength() {
        #expect(new(ND_AEAD_GCM, ND_AEAD_OPENSSL, seal: true, [UInt8](repeating: 0, count: 64), 160) == nil)
    }

    @Test("The checksum is that of RFC 1071 for every length and alignment")
    func checksum() {
        var random = Seeded(2)
        let data = random.bytes(600)
        var wrong: [String] = []
        for start in 0..<5 {
            for length in 0..<300 {
                let slice = Array(data[start..<(start + length)])
                let sum = data.withUnsafeBytes { nd_fold(nd_sum($0.baseAddress! + start, length, 0)) }
                // 0 and 0xffff are the same number.
                if sum.bigEndian % 0xffff != referenceSum(slice) % 0xffff { wrong.append("\(start) \(length)") }
            }
        }
        #expect(wrong == [])
        let ones = [UInt8](repeating: 0xff, count: 65_536)
        #expect(nd_fold(nd_sum(ones, ones.count, 0xffff_ffff)) == 0xffff)
    }
}
