#include "CESP.h"

#include <string.h>

#if defined(__x86_64__)
#define ND_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define ND_CLONES
#endif

/* 32-bit words into 64-bit sums: a loop that the compiler vectorizes. */
ND_CLONES static uint64_t sum_words(const uint8_t *p, size_t words)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < words; i++) {
		uint32_t w;

		memcpy(&w, p + 4 * i, 4);
		sum += w;
	}
	return sum;
}

uint32_t nd_sum(const void *data, size_t size, uint32_t start)
{
	const uint8_t *p = data;
	uint64_t sum = start + sum_words(p, size / 4);

	p += size & ~(size_t)3;
	if (size & 2) {
		uint16_t w;

		memcpy(&w, p, 2);
		sum += w;
		p += 2;
	}
	if (size & 1) {
		uint16_t w = 0;

		memcpy(&w, p, 1);
		sum += w;
	}
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	return nd_fold((uint32_t)sum);
}

uint32_t nd_copy_sum(void *to, const void *from, size_t size, uint32_t start)
{
	memcpy(to, from, size);
	return nd_sum(to, size, start);
}
