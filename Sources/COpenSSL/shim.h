#ifndef NDBPF_COPENSSL_SHIM_H
#define NDBPF_COPENSSL_SHIM_H

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/dh.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/params.h>

/* Macros in OpenSSL's headers, invisible to Swift. */
static inline const char *ndc_param_group_name(void) { return OSSL_PKEY_PARAM_GROUP_NAME; }
static inline const char *ndc_param_public_key(void) { return OSSL_PKEY_PARAM_PUB_KEY; }
static inline const char *ndc_param_private_key(void) { return OSSL_PKEY_PARAM_PRIV_KEY; }
static inline const char *ndc_param_mac_digest(void) { return OSSL_MAC_PARAM_DIGEST; }
static inline int ndc_selection_public_key(void) { return EVP_PKEY_PUBLIC_KEY; }
static inline int ndc_selection_key_pair(void) { return EVP_PKEY_KEYPAIR; }

#endif
