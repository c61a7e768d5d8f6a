/*
 * CRC32c by carry-less multiplication, 256 bytes at a step (after Gopal et al., "Fast CRC Computation for Generic Polynomials
 * Using PCLMULQDQ Instruction", Intel, 2009, with registers of 512 bits). A block of 128 bits is folded forward over D bits
 * by multiplying its first half with x^(D+32) mod P and its second with x^(D-32) mod P; in the reflected order of the bits a
 * constant is the reflected remainder shifted left by one. What is left of the last block goes through the crc32 instruction.
 */
#include "nke.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define FOLD __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,vpclmulqdq,pclmul,sse4.2")))

/* A pair of constants for each distance in bits. */
static uint64_t k2048[2], k1536[2], k1024[2], k512[2], k384[2], k256[2], k128[2];

/* x^n mod P, reflected, shifted left by one. */
static uint64_t power(unsigned n) {
  uint32_t c = 0x80000000u;
  while (n--) c = c & 1 ? 0x82f63b78u ^ (c >> 1) : c >> 1;
  return (uint64_t)c << 1;
}

static void make(uint64_t k[2], unsigned bits) {
  k[0] = power(bits + 32);
  k[1] = power(bits - 32);
}

bool nke_crc_can_fold(void) {
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq") ||
      !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("vpclmulqdq") || !__builtin_cpu_supports("sse4.2"))
    return false;
  make(k2048, 2048);
  make(k1536, 1536);
  make(k1024, 1024);
  make(k512, 512);
  make(k384, 384);
  make(k256, 256);
  make(k128, 128);
  return true;
}

FOLD static inline __m512i spread(const uint64_t k[2]) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)k));
}

/* x folded over k's distance, and y that stands there. */
FOLD static inline __m512i fold(__m512i x, __m512i k, __m512i y) {
  return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(x, k, 0x00), _mm512_clmulepi64_epi128(x, k, 0x11), y, 0x96);
}

FOLD size_t nke_crc_fold(uint32_t *crc, const uint8_t *p, size_t n) {
  if (n < 256) return 0; /* (a first step needs its four registers) */
  size_t left = n;
  const __m512i zero = _mm512_setzero_si512();
  __m512i a = _mm512_loadu_si512(p), b = _mm512_loadu_si512(p + 64), c = _mm512_loadu_si512(p + 128), d = _mm512_loadu_si512(p + 192);
  a = _mm512_xor_si512(a, _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)*crc)));
  const __m512i k = spread(k2048);
  for (p += 256, left -= 256; left >= 256; p += 256, left -= 256) {
    a = fold(a, k, _mm512_loadu_si512(p));
    b = fold(b, k, _mm512_loadu_si512(p + 64));
    c = fold(c, k, _mm512_loadu_si512(p + 128));
    d = fold(d, k, _mm512_loadu_si512(p + 192));
  }
  /* Four registers to one, and on in steps of one. */
  a = _mm512_ternarylogic_epi64(fold(a, spread(k1536), d), fold(b, spread(k1024), zero), fold(c, spread(k512), zero), 0x96);
  const __m512i one = spread(k512);
  for (; left >= 64; p += 64, left -= 64) a = fold(a, one, _mm512_loadu_si512(p));
  /* Its four lanes to one: the last one stays, the others are folded over 384, 256 and 128 bits. */
  const __m512i lanes = _mm512_set_epi64(0, 0, (long long)k128[1], (long long)k128[0], (long long)k256[1], (long long)k256[0],
                                         (long long)k384[1], (long long)k384[0]);
  const __m512i f = fold(a, lanes, zero);
  const __m256i h = _mm256_xor_si256(_mm512_castsi512_si256(f), _mm512_extracti64x4_epi64(f, 1));
  const __m128i x =
      _mm_xor_si128(_mm_xor_si128(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1)), _mm512_extracti32x4_epi32(a, 3));
  *crc = (uint32_t)_mm_crc32_u64(_mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(x)), (uint64_t)_mm_extract_epi64(x, 1));
  return n - left;
}
#else
bool nke_crc_can_fold(void) { return false; }
size_t nke_crc_fold(uint32_t *crc, const uint8_t *p, size_t n) {
  (void)crc;
  (void)p;
  (void)n;
  return 0;
}
#endif
