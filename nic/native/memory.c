/* Page-aligned memory as an external ArrayBuffer (mmap), the monotonic clock, and close(2). */
#include "nke.h"

#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static void unmap(napi_env env, void *data, void *hint) {
  (void)env;
  munmap(data, (size_t)hint);
}

/* allocate(bytes, populate) -> ArrayBuffer, zeroed, page aligned; throws when the system has no memory. */
static napi_value allocate(napi_env env, napi_callback_info info) {
  napi_value a[2];
  double bytes;
  bool populate = false;
  if (!nke_args(env, info, 2, a) || napi_get_value_double(env, a[0], &bytes) != napi_ok || !(bytes >= 1) || bytes > 0x1p36)
    return nke_type_error(env, "allocate(bytes, populate?): bytes must be between 1 and 2^36");
  napi_get_value_bool(env, a[1], &populate);
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  size_t size = ((size_t)bytes + page - 1) / page * page;
  void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (populate ? MAP_POPULATE : 0), -1, 0);
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
