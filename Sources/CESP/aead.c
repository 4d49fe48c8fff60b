#include "CESP.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && __has_include(<intel-ipsec-mb.h>)
#include <intel-ipsec-mb.h>
#define ND_HAVE_IPSEC_MB 1
#endif

struct nd_aead {
	enum nd_aead_kind kind;
	enum nd_aead_library library;
	bool seal;
	unsigned key_bits;
	uint8_t salt[4];
	EVP_CIPHER_CTX *cipher;
	EVP_CIPHER_CTX *iv_cipher;
	EVP_MAC_CTX *mac;
	uint64_t iv_counter;
#ifdef ND_HAVE_IPSEC_MB
	struct gcm_key_data *gcm;
#endif
};

#ifdef ND_HAVE_IPSEC_MB
/* The one-call GCM functions only find their code through the manager, they keep nothing in it: one
 * (200 KB) serves all threads and SAs. */
static IMB_MGR *manager;
static pthread_once_t manager_once = PTHREAD_ONCE_INIT;

static void new_manager(void)
{
	IMB_MGR *m;

	__builtin_cpu_init();
	if (!__builtin_cpu_supports("aes") || !__builtin_cpu_supports("pclmul") ||
	    !__builtin_cpu_supports("avx"))
		return;
	m = alloc_mb_mgr(0);
	if (!m)
		return;
	init_mb_mgr_auto(m, NULL);
	if (imb_get_errno(m) == 0)
		manager = m;
	else
		free_mb_mgr(m);
}
#endif

bool nd_ipsec_mb_usable(void)
{
#ifdef ND_HAVE_IPSEC_MB
	pthread_once(&manager_once, new_manager);
	return manager;
#else
	return false;
#endif
}

static bool new_openssl(struct nd_aead *a, const uint8_t *keymat)
{
	const EVP_CIPHER *cipher;
	EVP_MAC *mac;
	OSSL_PARAM parameters[2];
	uint8_t iv_key[16];
	bool ok;

	if (a->kind == ND_AEAD_GCM) {
		cipher = a->key_bits == 128 ? EVP_aes_128_gcm()
			 : a->key_bits == 192 ? EVP_aes_192_gcm() : EVP_aes_256_gcm();
		a->cipher = EVP_CIPHER_CTX_new();
		memcpy(a->salt, keymat + a->key_bits / 8, 4);
		return a->cipher && EVP_CipherInit_ex(a->cipher, cipher, NULL, keymat, NULL, a->seal) == 1;
	}
	cipher = a->key_bits == 128 ? EVP_aes_128_cbc()
		 : a->key_bits == 192 ? EVP_aes_192_cbc() : EVP_aes_256_cbc();
	a->cipher = EVP_CIPHER_CTX_new();
	if (!a->cipher || EVP_CipherInit_ex(a->cipher, cipher, NULL, keymat, NULL, a->seal) != 1 ||
	    EVP_CIPHER_CTX_set_padding(a->cipher, 0) != 1)
		return false;
	mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	if (!mac)
		return false;
	a->mac = EVP_MAC_CTX_new(mac);
	EVP_MAC_free(mac);
	parameters[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0);
	parameters[1] = OSSL_PARAM_construct_end();
	if (!a->mac || EVP_MAC_init(a->mac, keymat + a->key_bits / 8, 32, parameters) != 1)
		return false;
	if (!a->seal)
		return true;
	a->iv_cipher = EVP_CIPHER_CTX_new();
	ok = a->iv_cipher && RAND_bytes(iv_key, sizeof(iv_key)) == 1 &&
	     RAND_bytes((uint8_t *)&a->iv_counter, sizeof(a->iv_counter)) == 1 &&
	     EVP_EncryptInit_ex(a->iv_cipher, EVP_aes_128_ecb(), NULL, iv_key, NULL) == 1 &&
	     EVP_CIPHER_CTX_set_padding(a->iv_cipher, 0) == 1;
	OPENSSL_cleanse(iv_key, sizeof(iv_key));
	return ok;
}

#ifdef ND_HAVE_IPSEC_MB
static bool new_ipsec_mb(struct nd_aead *a, const uint8_t *keymat)
{
	if (a->kind != ND_AEAD_GCM || (a->key_bits != 128 && a->key_bits != 256))
		return false;
	if (!nd_ipsec_mb_usable())
		return false;
	a->gcm = aligned_alloc(_Alignof(struct gcm_key_data), sizeof(*a->gcm));
	if (!a->gcm)
		return false;
	memset(a->gcm, 0, sizeof(*a->gcm));
	memcpy(a->salt, keymat + a->key_bits / 8, 4);
	if (a->key_bits == 128)
		IMB_AES128_GCM_PRE(manager, keymat, a->gcm);
	else
		IMB_AES256_GCM_PRE(manager, keymat, a->gcm);
	return imb_get_errno(manager) == 0;
}
#endif

struct nd_aead *nd_aead_new(enum nd_aead_kind kind, enum nd_aead_library library, bool seal,
			    const uint8_t *keymat, unsigned key_bits)
{
	struct nd_aead *a;
	bool ok = false;

	if (key_bits != 128 && key_bits != 192 && key_bits != 256)
		return NULL;
	a = calloc(1, sizeof(*a));
	if (!a)
		return NULL;
	a->kind = kind;
	a->seal = seal;
	a->key_bits = key_bits;
	a->library = ND_AEAD_OPENSSL;
#ifdef ND_HAVE_IPSEC_MB
	if (library == ND_AEAD_IPSEC_MB && kind == ND_AEAD_GCM && key_bits != 192) {
		a->library = ND_AEAD_IPSEC_MB;
		ok = new_ipsec_mb(a, keymat);
	} else
#endif
		ok = new_openssl(a, keymat);
	(void)library;
	if (!ok) {
		nd_aead_free(a);
		return NULL;
	}
	return a;
}

void nd_aead_free(struct nd_aead *a)
{
	if (!a)
		return;
	EVP_CIPHER_CTX_free(a->cipher);
	EVP_CIPHER_CTX_free(a->iv_cipher);
	EVP_MAC_CTX_free(a->mac);
#ifdef ND_HAVE_IPSEC_MB
	if (a->gcm)
		OPENSSL_cleanse(a->gcm, sizeof(*a->gcm));
	free(a->gcm);
#endif
	OPENSSL_cleanse(a, sizeof(*a));
	free(a);
}

static void nonce_of(const struct nd_aead *a, const struct nd_esp_op *op, uint8_t nonce[12])
{
	memcpy(nonce, a->salt, 4);
	memcpy(nonce + 4, op->iv, 8);
}

/* HMAC over SPI | sequence | IV | ciphertext | high sequence bits (RFC 4303 §2.8, §2.2.1). */
static bool cbc_mac(struct nd_aead *a, const struct nd_esp_op *op, uint8_t out[32])
{
	size_t length = 0;

	/* aad holds SPI | [high] | low: the wire has SPI | low in front of the IV. */
	return EVP_MAC_init(a->mac, NULL, 0, NULL) == 1 &&
	       EVP_MAC_update(a->mac, op->iv - 8, 8 + 16 + op->length) == 1 &&
	       (op->aad_length == 8 || EVP_MAC_update(a->mac, op->aad + 4, 4) == 1) &&
	       EVP_MAC_final(a->mac, out, &length, 32) == 1 && length == 32;
}

static void seal_openssl(struct nd_aead *a, struct nd_esp_op *op)
{
	uint8_t nonce[12], mac[32];
	int n;

	if (a->kind == ND_AEAD_GCM) {
		nonce_of(a, op, nonce);
		op->ok = EVP_EncryptInit_ex(a->cipher, NULL, NULL, NULL, nonce) == 1 &&
			 EVP_EncryptUpdate(a->cipher, NULL, &n, op->aad, (int)op->aad_length) == 1 &&
			 EVP_EncryptUpdate(a->cipher, op->data, &n, op->data, (int)op->length) == 1 &&
			 EVP_EncryptFinal_ex(a->cipher, op->data + n, &n) == 1 &&
			 EVP_CIPHER_CTX_ctrl(a->cipher, EVP_CTRL_AEAD_GET_TAG, 16, op->icv) == 1;
		return;
	}
	memset(op->iv, 0, 16);
	a->iv_counter++;
	memcpy(op->iv, &a->iv_counter, sizeof(a->iv_counter));
	op->ok = EVP_EncryptUpdate(a->iv_cipher, op->iv, &n, op->iv, 16) == 1 &&
		 EVP_EncryptInit_ex(a->cipher, NULL, NULL, NULL, op->iv) == 1 &&
		 EVP_EncryptUpdate(a->cipher, op->data, &n, op->data, (int)op->length) == 1 &&
		 n == (int)op->length && cbc_mac(a, op, mac);
	if (op->ok)
		memcpy(op->icv, mac, 16);
}

static void open_openssl(struct nd_aead *a, struct nd_esp_op *op)
{
	uint8_t nonce[12], mac[32];
	int n;

	if (a->kind == ND_AEAD_GCM) {
		nonce_of(a, op, nonce);
		op->ok = EVP_DecryptInit_ex(a->cipher, NULL, NULL, NULL, nonce) == 1 &&
			 EVP_DecryptUpdate(a->cipher, NULL, &n, op->aad, (int)op->aad_length) == 1 &&
			 EVP_DecryptUpdate(a->cipher, op->data, &n, op->data, (int)op->length) == 1 &&
			 EVP_CIPHER_CTX_ctrl(a->cipher, EVP_CTRL_AEAD_SET_TAG, 16, op->icv) == 1 &&
			 EVP_DecryptFinal_ex(a->cipher, op->data + n, &n) == 1;
		return;
	}
	op->ok = cbc_mac(a, op, mac) && CRYPTO_memcmp(mac, op->icv, 16) == 0 &&
		 EVP_DecryptInit_ex(a->cipher, NULL, NULL, NULL, op->iv) == 1 &&
		 EVP_DecryptUpdate(a->cipher, op->data, &n, op->data, (int)op->length) == 1 &&
		 n == (int)op->length;
}

void nd_aead_seal(struct nd_aead *a, struct nd_esp_op *ops, unsigned count)
{
#ifdef ND_HAVE_IPSEC_MB
	if (a->library == ND_AEAD_IPSEC_MB) {
		struct gcm_context_data context;
		uint8_t nonce[12];

		for (unsigned i = 0; i < count; i++) {
			struct nd_esp_op *op = &ops[i];

			nonce_of(a, op, nonce);
			if (a->key_bits == 128)
				IMB_AES128_GCM_ENC(manager, a->gcm, &context, op->data, op->data,
						   op->length, nonce, op->aad, op->aad_length,
						   op->icv, 16);
			else
				IMB_AES256_GCM_ENC(manager, a->gcm, &context, op->data, op->data,
						   op->length, nonce, op->aad, op->aad_length,
						   op->icv, 16);
			/* A call that it refuses leaves the plaintext as it is. */
			op->ok = imb_get_errno(manager) == 0;
		}
		return;
	}
#endif
	for (unsigned i = 0; i < count; i++)
		seal_openssl(a, &ops[i]);
}

void nd_aead_open(struct nd_aead *a, struct nd_esp_op *ops, unsigned count)
{
#ifdef ND_HAVE_IPSEC_MB
	if (a->library == ND_AEAD_IPSEC_MB) {
		struct gcm_context_data context;
		uint8_t nonce[12], tag[16];

		for (unsigned i = 0; i < count; i++) {
			struct nd_esp_op *op = &ops[i];

			nonce_of(a, op, nonce);
			if (a->key_bits == 128)
				IMB_AES128_GCM_DEC(manager, a->gcm, &context, op->data, op->data,
						   op->length, nonce, op->aad, op->aad_length, tag, 16);
			else
				IMB_AES256_GCM_DEC(manager, a->gcm, &context, op->data, op->data,
						   op->length, nonce, op->aad, op->aad_length, tag, 16);
			op->ok = imb_get_errno(manager) == 0 && CRYPTO_memcmp(tag, op->icv, 16) == 0;
		}
		return;
	}
#endif
	for (unsigned i = 0; i < count; i++)
		open_openssl(a, &ops[i]);
}
