/*
 * CRC32c of SCTP packets (RFC 9260 §6.8 and Appendix A; Castagnoli polynomial, reflected 0x82f63b78).
 *
 * The checksum field (offset 8, 4 bytes) counts as zero and holds the reflected CRC's bytes lowest first, which is what
 * Appendix A's byte swap comes to. The best of three ways is chosen at load: folding by carry-less multiplication where the
 * processor has it for 512 bits (crc32c-fold.c), else the crc32 instruction of SSE4.2 or ARMv8, else tables (slicing by
 * eight). The instruction has a latency of three cycles and a throughput of one, so three packets are worked at the same
 * time: in a train they are all the same length.
 */
#include "nke.h"

#include <endian.h>
#include <string.h>
#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

#define SCTP_HEADER 12 /* common header, RFC 9260 §3.1 */

static uint32_t table[8][256];

static void make_tables(void) {
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (int k = 0; k < 8; k++) c = c & 1 ? 0x82f63b78u ^ (c >> 1) : c >> 1;
    table[0][i] = c;
  }
  for (int t = 1; t < 8; t++)
    for (int i = 0; i < 256; i++) table[t][i] = table[0][table[t - 1][i] & 255] ^ (table[t - 1][i] >> 8);
}

static inline uint64_t load64(const uint8_t *p) {
  uint64_t v;
  memcpy(&v, p, 8);
  return v;
}

static uint32_t soft_run(uint32_t crc, const uint8_t *p, size_t n) {
  for (; n >= 8; p += 8, n -= 8) {
    uint64_t v = le64toh(load64(p)) ^ crc;
    crc = table[7][v & 255] ^ table[6][v >> 8 & 255] ^ table[5][v >> 16 & 255] ^ table[4][v >> 24 & 255] ^
          table[3][v >> 32 & 255] ^ table[2][v >> 40 & 255] ^ table[1][v >> 48 & 255] ^ table[0][v >> 56];
  }
  while (n--) crc = table[0][(crc ^ *p++) & 255] ^ (crc >> 8);
  return crc;
}

static void soft_run3(uint32_t crc[3], const uint8_t *const p[3], size_t n) {
  for (int i = 0; i < 3; i++) crc[i] = soft_run(crc[i], p[i], n);
}

#if defined(__x86_64__)
#define HARD __attribute__((target("sse4.2")))
#define STEP8(c, p) ((uint32_t)_mm_crc32_u64((c), load64(p)))
#define STEP1(c, b) _mm_crc32_u8((c), (b))
#elif defined(__ARM_FEATURE_CRC32)
#define HARD
#define STEP8(c, p) __crc32cd((c), load64(p))
#define STEP1(c, b) __crc32cb((c), (b))
#endif

#ifdef HARD
HARD static uint32_t hard_run(uint32_t crc, const uint8_t *p, size_t n) {
  for (; n >= 8; p += 8, n -= 8) crc = STEP8(crc, p);
  while (n--) crc = STEP1(crc, *p++);
  return crc;
}

/* n is a multiple of eight. */
HARD static void hard_run3(uint32_t crc[3], const uint8_t *const p[3], size_t n) {
  uint32_t a = crc[0], b = crc[1], c = crc[2];
  const uint8_t *pa = p[0], *pb = p[1], *pc = p[2];
  for (size_t i = 0; i < n; i += 8) {
    a = STEP8(a, pa + i);
    b = STEP8(b, pb + i);
    c = STEP8(c, pc + i);
  }
  crc[0] = a;
  crc[1] = b;
  crc[2] = c;
}
#endif

/* Folding: each packet by itself, its rest by the instruction. */
#ifdef HARD
HARD static uint32_t fold_run(uint32_t crc, const uint8_t *p, size_t n) {
  size_t done = n < 256 ? 0 : nke_crc_fold(&crc, p, n);
  return hard_run(crc, p + done, n - done);
}

static void fold_run3(uint32_t crc[3], const uint8_t *const p[3], size_t n) {
  if (n < 512) {
    hard_run3(crc, p, n); /* three at a time are faster than what folding has to put together at the end */
    return;
  }
  for (int i = 0; i < 3; i++) crc[i] = fold_run(crc[i], p[i], n);
}
#endif

static uint32_t (*run)(uint32_t, const uint8_t *, size_t) = soft_run;
static void (*run3)(uint32_t[3], const uint8_t *const[3], size_t) = soft_run3;

static bool have_hard(void) {
#if defined(__x86_64__)
  return __builtin_cpu_supports("sse4.2");
#elif defined(HARD)
  return true;
#else
  return false;
#endif
}

enum { TABLES, INSTRUCTION, FOLDING };
static int level;

/* The best way up to `most`. */
static void choose(int most) {
  level = TABLES;
  run = soft_run;
  run3 = soft_run3;
#ifdef HARD
  if (most >= INSTRUCTION && have_hard()) {
    level = INSTRUCTION;
    run = hard_run;
    run3 = hard_run3;
    if (most >= FOLDING && nke_crc_can_fold()) {
      level = FOLDING;
      run = fold_run;
      run3 = fold_run3;
    }
  }
#else
  (void)most;
#endif
}

void nke_crc_setup(void) {
  if (table[0][1] == 0) make_tables();
  choose(FOLDING);
}

static const uint8_t zero4[4];

/* CRC of the common header with its checksum field as zero. */
static inline uint32_t head(const uint8_t *p) { return run(run(0xffffffffu, p, 8), zero4, 4); }

static inline void finish(const nke_crc_job *j, uint32_t crc) {
  uint32_t sum = htole32(~crc);
  if (!j->bad) {
    memcpy(j->p + 8, &sum, 4);
  } else {
    uint32_t stored;
    memcpy(&stored, j->p + 8, 4);
    if (stored != sum) ++*j->bad;
  }
}

void nke_crc_flush(nke_crc_stream *s) {
  uint32_t crc[3];
  const uint8_t *p[3];
  size_t left[3], common = 0;
  for (int i = 0; i < s->n; i++) {
    crc[i] = head(s->job[i].p);
    p[i] = s->job[i].p + SCTP_HEADER;
    left[i] = s->job[i].n - SCTP_HEADER;
    if (i == 0 || left[i] < common) common = left[i];
  }
  if (s->n == 3) {
    common &= ~(size_t)7;
    run3(crc, p, common);
    for (int i = 0; i < 3; i++) {
      p[i] += common;
      left[i] -= common;
    }
  }
  for (int i = 0; i < s->n; i++) finish(&s->job[i], run(crc[i], p[i], left[i]));
  s->n = 0;
}

void nke_crc_put(nke_crc_stream *s, uint8_t *p, uint32_t n, int32_t *bad) {
  if (n < SCTP_HEADER) { /* no SCTP packet: nothing to fill in, and never good */
    if (bad) ++*bad;
    return;
  }
  s->job[s->n++] = (nke_crc_job){p, n, bad};
  if (s->n == 3) nke_crc_flush(s);
}

void nke_crc_cut(nke_crc_stream *s, uint8_t *p, uint32_t n, uint32_t segsz, int32_t *bad) {
  if (segsz == 0) {
    nke_crc_put(s, p, n, bad);
    return;
  }
  for (uint32_t at = 0; at < n; at += segsz) nke_crc_put(s, p + at, n - at < segsz ? n - at : segsz, bad);
}

/* crc32c(u8, off, len) -> CRC32c of plain bytes as int32 (the usual presentation, complemented). */
static napi_value crc_plain(napi_env env, napi_callback_info info) {
  napi_value a[3];
  nke_bytes region;
  int32_t off, len;
  if (!nke_args(env, info, 3, a) || !nke_get_bytes(env, a[0], &region) || !nke_get_i32(env, a[1], &off) || !nke_get_i32(env, a[2], &len) ||
      !nke_in(&region, off, len))
    return nke_type_error(env, "crc32c(u8, off, len): not within the array");
  return nke_i32(env, (int32_t)~run(0xffffffffu, region.p + off, (size_t)len));
}

typedef struct {
  nke_bytes region;
  nke_words off, len, segsz, hdrlen, bad;
  int32_t count;
} crc_call;

static bool crc_args(napi_env env, napi_callback_info info, crc_call *c, bool check) {
  napi_value a[7];
  if (!nke_args(env, info, check ? 7 : 6, a) || !nke_get_bytes(env, a[0], &c->region) || !nke_get_words(env, a[1], &c->off) ||
      !nke_get_words(env, a[2], &c->len) || !nke_get_words(env, a[3], &c->segsz) || !nke_get_words(env, a[4], &c->hdrlen) ||
      !nke_get_i32(env, a[5], &c->count) || (check && !nke_get_words(env, a[6], &c->bad)) || c->count < 0)
    return false;
  size_t n = (size_t)c->count;
  if (n > c->off.n || n > c->len.n || n > c->segsz.n || n > c->hdrlen.n || (check && n > c->bad.n)) return false;
  for (size_t i = 0; i < n; i++)
    if (!nke_in(&c->region, c->off.p[i], c->len.p[i]) || c->hdrlen.p[i] < 0 || c->hdrlen.p[i] > c->len.p[i] || c->segsz.p[i] < 0) return false;
  return true;
}

static void crc_work(crc_call *c, bool check) {
  nke_crc_stream s = {.n = 0};
  for (int32_t i = 0; i < c->count; i++) {
    int32_t h = c->hdrlen.p[i];
    int32_t *bad = check ? &c->bad.p[i] : NULL;
    if (bad) *bad = 0;
    nke_crc_cut(&s, c->region.p + c->off.p[i] + h, (uint32_t)(c->len.p[i] - h), (uint32_t)c->segsz.p[i], bad);
  }
  nke_crc_flush(&s);
}

/* crc32cFill(u8, off, len, segsz, hdrlen, count): fills in the checksum of every SCTP packet of every entry. */
static napi_value crc_fill(napi_env env, napi_callback_info info) {
  crc_call c;
  if (!crc_args(env, info, &c, false)) return nke_type_error(env, "crc32cFill: an entry is not within the region");
  crc_work(&c, false);
  return nke_i32(env, 0);
}

/* crc32cCheck(u8, off, len, segsz, hdrlen, count, bad): bad[i] = how many SCTP packets of entry i have a wrong checksum. */
static napi_value crc_check(napi_env env, napi_callback_info info) {
  crc_call c;
  if (!crc_args(env, info, &c, true)) return nke_type_error(env, "crc32cCheck: an entry is not within the region");
  crc_work(&c, true);
  return nke_i32(env, 0);
}

/* crc32cLevel(most?) -> how it is done: 0 tables, 1 instruction, 2 folding. `most` chooses the best way up to it (tests). */
static napi_value crc_level(napi_env env, napi_callback_info info) {
  napi_value a[1];
  int32_t most;
  if (nke_args(env, info, 1, a) && nke_get_i32(env, a[0], &most)) choose(most);
  return nke_i32(env, level);
}

bool nke_crc_init(napi_env env, napi_value exports) {
  return nke_export(env, exports, "crc32c", crc_plain) && nke_export(env, exports, "crc32cFill", crc_fill) &&
         nke_export(env, exports, "crc32cCheck", crc_check) && nke_export(env, exports, "crc32cLevel", crc_level);
}
