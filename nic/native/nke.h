/*
 * Shared by the files of the Node-API module: argument helpers and the functions that module.c exports.
 *
 * The module decides nothing. One call moves one batch; errors come back as -errno; nothing is allocated per call: the
 * scratch arrays are thread-local and fixed. All offsets that JavaScript passes are checked against the region.
 */
#ifndef NKE_H
#define NKE_H

#include <errno.h>
#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NKE_BATCH 64     /* most entries that one system call moves */
#define NKE_SEGMENTS 64  /* UDP_MAX_SEGMENTS of kernels up to 6.8 */

typedef struct {
  uint8_t *p;
  size_t n;
} nke_bytes;

typedef struct {
  int32_t *p;
  size_t n;
} nke_words;

/* Fetches exactly `want` arguments; missing ones are `undefined`. False (with a pending exception) on failure. */
bool nke_args(napi_env env, napi_callback_info info, size_t want, napi_value *argv);
/* Typed reads; false when the value has another type. */
bool nke_get_bytes(napi_env env, napi_value v, nke_bytes *out);
bool nke_get_words(napi_env env, napi_value v, nke_words *out);
bool nke_get_i32(napi_env env, napi_value v, int32_t *out);
/* Copies a string; *out becomes empty for undefined/null. False when it is neither or too long. */
bool nke_get_text(napi_env env, napi_value v, char *out, size_t cap);
napi_value nke_i32(napi_env env, int32_t v);
/* Throws TypeError (programmer error) and returns NULL. */
napi_value nke_type_error(napi_env env, const char *message);

/* True when [off, off+len) lies in the region. */
static inline bool nke_in(const nke_bytes *region, int32_t off, int32_t len) {
  return off >= 0 && len >= 0 && (size_t)off + (size_t)len <= region->n;
}

/*
 * Network namespaces (setns(2)). nke_ns_enter moves the calling thread into `path`; "" does nothing. Returns 0 or -errno
 * and keeps in *saved what nke_ns_leave needs. Leaving must succeed: a thread in a wrong namespace would be a lie to the
 * rest of the process, so failure is fatal.
 */
int nke_ns_enter(const char *path, int *saved);
void nke_ns_leave(int saved);

/* CRC32c of SCTP packets, a stream of jobs; see crc32c.c. */
typedef struct {
  uint8_t *p;
  uint32_t n;
  int32_t *bad; /* NULL: fill in the checksum; else: add one to *bad when the stored one is wrong */
} nke_crc_job;
typedef struct {
  nke_crc_job job[3];
  int n;
} nke_crc_stream;
void nke_crc_setup(void);
/* Whether the processor can fold (crc32c-fold.c); prepares it. */
bool nke_crc_can_fold(void);
/* Takes whole steps of n bytes at p into *crc; returns how many bytes, 0 when they are too few. The rest is the caller's. */
size_t nke_crc_fold(uint32_t *crc, const uint8_t *p, size_t n);
void nke_crc_put(nke_crc_stream *s, uint8_t *p, uint32_t n, int32_t *bad);
void nke_crc_flush(nke_crc_stream *s);
/* Puts every SCTP packet of a train (segsz > 0) or single packet at p. */
void nke_crc_cut(nke_crc_stream *s, uint8_t *p, uint32_t n, uint32_t segsz, int32_t *bad);

/* Registers each file's functions on exports. */
bool nke_export(napi_env env, napi_value exports, const char *name, napi_callback fn);
bool nke_memory_init(napi_env env, napi_value exports);
bool nke_poll_init(napi_env env, napi_value exports);
bool nke_netns_init(napi_env env, napi_value exports);
bool nke_thread_init(napi_env env, napi_value exports);
bool nke_udp_init(napi_env env, napi_value exports);
bool nke_tuntap_init(napi_env env, napi_value exports);
bool nke_netlink_init(napi_env env, napi_value exports);
bool nke_packet_init(napi_env env, napi_value exports);
bool nke_bpf_init(napi_env env, napi_value exports);
bool nke_xdp_init(napi_env env, napi_value exports);
bool nke_crc_init(napi_env env, napi_value exports);

#endif
