/* Page-aligned memory as an external ArrayBuffer (mmap), the monotonic clock, and close(2). */
#include "nke.h"

#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define HUGE_PAGE ((size_t)2 << 20)

static void unmap(napi_env env, void *data, void *hint) {
  (void)env;
  munmap(data, (size_t)hint);
}

/* Maps `size` bytes at a huge page's boundary and asks for huge pages (transparent ones, if the system gives any). */
static void *map_huge(size_t size) {
  uint8_t *p = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return p;
  size_t before = (HUGE_PAGE - ((uintptr_t)p & (HUGE_PAGE - 1))) & (HUGE_PAGE - 1);
  if (before > 0) munmap(p, before);
  if (before < HUGE_PAGE) munmap(p + before + size, HUGE_PAGE - before);
  madvise(p + before, size, MADV_HUGEPAGE);
  return p + before;
}

/*
 * allocate(bytes, populate?, huge?) -> ArrayBuffer, zeroed, page aligned; `huge`: in huge pages, as far as there are any, so
 * that a busy card does not spend its time on walks of the page table; nothing is populated then. Throws when the system has
 * no memory.
 */
static napi_value allocate(napi_env env, napi_callback_info info) {
  napi_value a[3];
  double bytes;
  bool populate = false, huge = false;
  if (!nke_args(env, info, 3, a) || napi_get_value_double(env, a[0], &bytes) != napi_ok || !(bytes >= 1) || bytes > 0x1p36)
    return nke_type_error(env, "allocate(bytes, populate?, huge?): bytes must be between 1 and 2^36");
  napi_get_value_bool(env, a[1], &populate);
  napi_get_value_bool(env, a[2], &huge);
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  size_t size = ((size_t)bytes + page - 1) / page * page;
  void *p = huge && size >= HUGE_PAGE
                ? map_huge(size)
                : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (populate ? MAP_POPULATE : 0), -1, 0);
  if (p == MAP_FAILED) {
    napi_throw_error(env, "ENOMEM", "allocate: the system has no memory of this size");
    return NULL;
  }
  napi_value out;
  if (napi_create_external_arraybuffer(env, p, (size_t)bytes, unmap, (void *)size, &out) != napi_ok) {
    munmap(p, size);
    napi_throw_error(env, NULL, "allocate: this runtime takes no external ArrayBuffer");
    return NULL;
  }
  return out;
}

/* now() -> CLOCK_MONOTONIC in nanoseconds. */
static napi_value now(napi_env env, napi_callback_info info) {
  (void)info;
  struct timespec t;
  napi_value out;
  clock_gettime(CLOCK_MONOTONIC, &t);
  napi_create_double(env, (double)t.tv_sec * 1e9 + (double)t.tv_nsec, &out);
  return out;
}

/* close(fd) -> 0 or -errno */
static napi_value close_fd(napi_env env, napi_callback_info info) {
  napi_value a[1];
  int32_t fd;
  if (!nke_args(env, info, 1, a) || !nke_get_i32(env, a[0], &fd)) return nke_type_error(env, "close(fd)");
  return nke_i32(env, close(fd) == 0 ? 0 : -errno);
}

/* copy(src, from, dst, at, n): bytes between two Uint8Arrays, checked against both. Ranges may overlap. */
static napi_value copy(napi_env env, napi_callback_info info) {
  napi_value a[5];
  nke_bytes src, dst;
  int32_t from, at, n;
  if (!nke_args(env, info, 5, a) || !nke_get_bytes(env, a[0], &src) || !nke_get_i32(env, a[1], &from) ||
      !nke_get_bytes(env, a[2], &dst) || !nke_get_i32(env, a[3], &at) || !nke_get_i32(env, a[4], &n) ||
      !nke_in(&src, from, n) || !nke_in(&dst, at, n))
    return nke_type_error(env, "copy(src, from, dst, at, n): both ranges must lie in their arrays");
  memmove(dst.p + at, src.p + from, (size_t)n);
  return NULL;
}

/*
 * copyBatch(src, from, dst, at, len, count): bytes src[from[i], from[i]+len[i]) to dst[at[i]..] for each i below count; an
 * entry with at[i] < 0 is skipped. Each range is checked against both arrays. Ranges of one entry may overlap.
 */
static napi_value copy_batch(napi_env env, napi_callback_info info) {
  napi_value a[6];
  nke_bytes src, dst;
  nke_words from, at, len;
  int32_t count;
  if (!nke_args(env, info, 6, a) || !nke_get_bytes(env, a[0], &src) || !nke_get_words(env, a[1], &from) ||
      !nke_get_bytes(env, a[2], &dst) || !nke_get_words(env, a[3], &at) || !nke_get_words(env, a[4], &len) ||
      !nke_get_i32(env, a[5], &count) || count < 0 || (size_t)count > from.n || (size_t)count > at.n || (size_t)count > len.n)
    return nke_type_error(env, "copyBatch(src, from, dst, at, len, count): three Int32Arrays of at least count entries");
  for (int32_t i = 0; i < count; i++) {
    if (at.p[i] < 0) continue;
    if (!nke_in(&src, from.p[i], len.p[i]) || !nke_in(&dst, at.p[i], len.p[i]))
      return nke_type_error(env, "copyBatch: a range lies outside its array");
    memmove(dst.p + at.p[i], src.p + from.p[i], (size_t)len.p[i]);
  }
  return NULL;
}

bool nke_memory_init(napi_env env, napi_value exports) {
  return nke_export(env, exports, "allocate", allocate) && nke_export(env, exports, "now", now) &&
         nke_export(env, exports, "close", close_fd) && nke_export(env, exports, "copy", copy) &&
         nke_export(env, exports, "copyBatch", copy_batch);
}
