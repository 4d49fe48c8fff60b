import NDCore
import NDCrypto
import Testing

@Suite struct PrimitiveTests {
    // RFC 4231 §4.2 and §4.3, RFC 2202 §3 case 1
    @Test func `HMAC equals the RFC's values`() throws {
        let key = SecretBytes([UInt8](repeating: 0x0b, count: 20))
        let data = Array("Hi There".utf8)
        #expect(
            try HashAlgorithm.sha1.authenticator(key, [.bytes(data)])
                == hex("b617318655057264e28bc0b6fb378c8ef146be00"))
        #expect(
            try HashAlgorithm.sha256.authenticator(key, [.bytes(data)])
                == hex("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"))
        #expect(
            try HashAlgorithm.sha384.authenticator(key, [.bytes(data)])
                == hex(
                    "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6"
                ))
        #expect(
            try HashAlgorithm.sha256.authenticator(
                SecretBytes(Array("Jefe".utf8)), [.bytes(Array("what do ya want ".utf8)), .bytes(Array("for nothing?".utf8))])
                == hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"))
    }

    @Test func `an empty key is a key`() throws {
        // prf("", "") of HMAC-SHA-256
        #expect(
            try HashAlgorithm.sha256.authenticator(SecretBytes([UInt8]()), [])
                == hex("b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad"))
    }

    @Test func `digests equal the published values`() throws {
        let abc = Array("abc".utf8)
        #expect(try HashAlgorithm.sha1.digest(abc) == hex("a9993e364706816aba3e25717850c26c9cd0d89d"))
        #expect(
            try HashAlgorithm.sha256.digest(Array("a".utf8), Array("bc".utf8))
                == hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"))
    }

    // RFC 3602 §4 cases 1 and 2
    @Test func `AES-CBC equals the RFC's values`() throws {
        let one = try AESCBC(key: SecretBytes(hex("06a9214036b8a15b512e03d534120006")))
        let iv = hex("3dafba429d9eb430b422da802c9fac41")
        let text = Array("Single block msg".utf8)
        #expect(try one.encrypt(text, iv: iv) == hex("e353779c1079aeb82708942dbe77181a"))
        #expect(try one.decrypt(hex("e353779c1079aeb82708942dbe77181a"), iv: iv) == text)
        let two = try AESCBC(key: SecretBytes(hex("c286696d887c9aa0611bbb3e2025a45a")))
        #expect(
            try two.encrypt(Array(UInt8(0)..<32), iv: hex("562e17996d093d28ddb3ba695a2e6f58"))
                == hex("d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1"))
    }

    @Test func `AES-CBC refuses partial blocks, wrong IVs and wrong keys`() throws {
        let cipher = try AESCBC(key: SecretBytes([UInt8](repeating: 1, count: 32)))
        let iv = [UInt8](repeating: 0, count: 16)
        for count in [0, 1, 15, 17, 31] {
            #expect(throws: CryptoError.blockLength) {
                _ = try cipher.decrypt([UInt8](repeating: 0, count: count), iv: iv)
            }
        }
        #expect(throws: CryptoError.blockLength) {
            _ = try cipher.encrypt([UInt8](repeating: 0, count: 16), iv: [0])
        }
        for count in [0, 1, 15, 33] {
            #expect(throws: CryptoError.keyLength) { _ = try AESCBC(key: SecretBytes([UInt8](repeating: 0, count: count))) }
        }
    }

    @Test func `comparison sees length and content`() {
        #expect(constantTimeEqual([1, 2, 3], [1, 2, 3]))
        #expect(!constantTimeEqual([1, 2, 3], [1, 2, 4]))
        #expect(!constantTimeEqual([1, 2, 3], [1, 2]))
        #expect(constantTimeEqual([], []))
    }
}
