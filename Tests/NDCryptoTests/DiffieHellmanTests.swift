import NDCore
import NDCrypto
import Testing

@Suite struct DiffieHellmanTests {
    // RFC 3526 §3
    static let prime = hex(
        """
        ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd
        ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed
        ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf0598da48361c55d39a69163fa8fd24cf5f
        83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3b
        e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf6955817183995497cea956ae515d2261898fa0510
        15728e5a8aacaa68ffffffffffffffff
        """)

    @Test(arguments: DHGroup.allCases)
    func `both sides compute the same secret of full length`(group: DHGroup) throws {
        for _ in 0..<(group == .modp2048 ? 3 : 20) {
            let a = try DHKeyPair(group), b = try DHKeyPair(group)
            #expect(a.publicValue.count == group.publicValueBytes)
            let ab = try a.sharedSecret(with: b.publicValue), ba = try b.sharedSecret(with: a.publicValue)
            #expect(ab.count == group.sharedSecretBytes)
            #expect(ab.withUnsafeBytes { Array($0) } == ba.withUnsafeBytes { Array($0) })
        }
    }

    // RFC 5903 §8.1
    @Test func `ECP256 equals the RFC's example`() throws {
        let i = SecretBytes(hex("C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433"))
        let gi = hex(
            "DAD0B65394221CF9B051E1FECA5787D098DFE637FC90B9EF945D0C37725811805271A0461CDB8252D61F1C456FA3E59AB1F45B33ACCF5F58389E0577B8990BB3"
        )
        let r = SecretBytes(hex("C6EF9C5D78AE012A011164ACB397CE2088685D8F06BF9BE0B283AB46476BEE53"))
        let gr = hex(
            "D12DFB5289C8D4F81208B70270398C342296970A0BCCB74C736FC7554494BF6356FBF3CA366CC23E8157854C13C58D6AAC23F046ADA30F8353E74F33039872AB"
        )
        let secret = hex("D6840F6B42F6EDAFD13116E0E12565202FEF8E9ECE7DCE03812464D04B9442DE")
        let a = try DHKeyPair(.ecp256, privateKey: i, publicValue: gi)
        let b = try DHKeyPair(.ecp256, privateKey: r, publicValue: gr)
        #expect(try a.sharedSecret(with: gr).withUnsafeBytes { Array($0) } == secret)
        #expect(try b.sharedSecret(with: gi).withUnsafeBytes { Array($0) } == secret)
    }

    @Test func `trivial MODP values are refused`() throws {
        let own = try DHKeyPair(.modp2048)
        let zero = [UInt8](repeating: 0, count: 256)
        var one = zero, below = Self.prime, above = Self.prime
        one[255] = 1
        below[255] -= 1
        above[255] = 0xff
        above[0] = 0xff
        for value in [zero, one, below, Self.prime, [UInt8](repeating: 0xff, count: 256)] {
            #expect(throws: CryptoError.publicValueInvalid) { _ = try own.sharedSecret(with: value) }
        }
        for count in [0, 1, 255, 257, 512] {
            #expect(throws: CryptoError.publicValueLength) {
                _ = try own.sharedSecret(with: [UInt8](repeating: 2, count: count))
            }
        }
    }

    @Test(arguments: [DHGroup.ecp256, .ecp384])
    func `points off the curve are refused`(group: DHGroup) throws {
        let own = try DHKeyPair(group)
        let zero = [UInt8](repeating: 0, count: group.publicValueBytes)
        var moved = try DHKeyPair(group).publicValue
        moved[group.publicValueBytes - 1] ^= 1
        for value in [zero, moved, [UInt8](repeating: 0xff, count: zero.count)] {
            #expect(throws: CryptoError.publicValueInvalid) { _ = try own.sharedSecret(with: value) }
        }
        for count in [0, group.publicValueBytes - 1, group.publicValueBytes + 1] {
            #expect(throws: CryptoError.publicValueLength) {
                _ = try own.sharedSecret(with: [UInt8](repeating: 2, count: count))
            }
        }
    }
}
