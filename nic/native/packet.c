/*
 * Packet sockets (packet(7)): the system calls around rings that TypeScript reads and writes itself (nic/ports/packet.ts). Options
 * are bytes that TypeScript lays out; only their level is fixed here.
 */
#include "nke.h"

#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define FILTER_MAX 4096 /* BPF_MAXINSNS */

/* Marks the ArrayBuffers that are rings, so that no other memory is ever unmapped. */
static const napi_type_tag ring_tag = {0x6e6b652e7061636bULL, 0x65742e72696e6773ULL};

/* packetOpen(netns path?) -> fd of a socket that receives nothing until it is bound, or -errno */
static napi_value packet_open(napi_env env, napi_callback_info info) {
  napi_value a[1];
  char ns[256];
  int saved;
  if (!nke_args(env, info, 1, a) || !nke_get_text(env, a[0], ns, sizeof ns)) return nke_type_error(env, "packetOpen(netns?)");
  int r = nke_ns_enter(ns, &saved);
  if (r == 0) {
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    r = fd < 0 ? -errno : fd;
    nke_ns_leave(saved);
  }
  return nke_i32(env, r);
}

/* packetSet(fd, option, value bytes) -> 0 or -errno (level SOL_PACKET) */
static napi_value packet_set(napi_env env, napi_callback_info info) {
  napi_value a[3];
  int32_t fd, option;
  nke_bytes b;
  if (!nke_args(env, info, 3, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_i32(env, a[1], &option) || !nke_get_bytes(env, a[2], &b))
    return nke_type_error(env, "packetSet(fd, option, bytes)");
  return nke_i32(env, setsockopt(fd, SOL_PACKET, option, b.p, (socklen_t)b.n) == 0 ? 0 : -errno);
}

/* packetGet(fd, option, value bytes) -> bytes filled in, or -errno */
static napi_value packet_get(napi_env env, napi_callback_info info) {
  napi_value a[3];
  int32_t fd, option;
  nke_bytes b;
  if (!nke_args(env, info, 3, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_i32(env, a[1], &option) || !nke_get_bytes(env, a[2], &b))
    return nke_type_error(env, "packetGet(fd, option, bytes)");
  socklen_t n = (socklen_t)b.n;
  return nke_i32(env, getsockopt(fd, SOL_PACKET, option, b.p, &n) == 0 ? (int32_t)n : -errno);
}

/* packetFilter(fd, program of struct sock_filter) -> 0 or -errno; it takes the place of one that is attached already. */
static napi_value packet_filter(napi_env env, napi_callback_info info) {
  napi_value a[2];
  int32_t fd;
  nke_bytes b;
  if (!nke_args(env, info, 2, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_bytes(env, a[1], &b) || b.n == 0 ||
      b.n % sizeof(struct sock_filter) != 0 || b.n / sizeof(struct sock_filter) > FILTER_MAX)
    return nke_type_error(env, "packetFilter(fd, whole instructions, at most 4096)");
  struct sock_fprog program = {.len = (unsigned short)(b.n / sizeof(struct sock_filter)), .filter = (struct sock_filter *)(void *)b.p};
  return nke_i32(env, setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0 ? 0 : -errno);
}

/*
 * packetSteer(fd, program of struct sock_filter) -> 0 or -errno: which socket of the fanout group gets a packet (PACKET_FANOUT_DATA of
 * PACKET_FANOUT_CBPF). The option takes a pointer, so that packetSet will not do.
 */
static napi_value packet_steer(napi_env env, napi_callback_info info) {
  napi_value a[2];
  int32_t fd;
  nke_bytes b;
  if (!nke_args(env, info, 2, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_bytes(env, a[1], &b) || b.n == 0 ||
      b.n % sizeof(struct sock_filter) != 0 || b.n / sizeof(struct sock_filter) > FILTER_MAX)
    return nke_type_error(env, "packetSteer(fd, whole instructions, at most 4096)");
  struct sock_fprog program = {.len = (unsigned short)(b.n / sizeof(struct sock_filter)), .filter = (struct sock_filter *)(void *)b.p};
  return nke_i32(env, setsockopt(fd, SOL_PACKET, PACKET_FANOUT_DATA, &program, sizeof program) == 0 ? 0 : -errno);
}

/* packetBuffer(fd, send, bytes) -> 0 or -errno: as many to send as asked for when we may, else as many as any program gets. */
static napi_value packet_buffer(napi_env env, napi_callback_info info) {
  napi_value a[3];
  int32_t fd, n;
  bool sending;
  if (!nke_args(env, info, 3, a) || !nke_get_i32(env, a[0], &fd) || napi_get_value_bool(env, a[1], &sending) != napi_ok || !nke_get_i32(env, a[2], &n))
    return nke_type_error(env, "packetBuffer(fd, send, bytes)");
  if (sending && setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &n, sizeof n) == 0) return nke_i32(env, 0);
  return nke_i32(env, setsockopt(fd, SOL_SOCKET, sending ? SO_SNDBUF : SO_RCVBUF, &n, sizeof n) == 0 ? 0 : -errno);
}

/* packetDrain(fd): throws away the few packets that a socket without a ring has queued. */
static napi_value packet_drain(napi_env env, napi_callback_info info) {
  napi_value a[1];
  int32_t fd;
  char byte;
  if (!nke_args(env, info, 1, a) || !nke_get_i32(env, a[0], &fd)) return nke_type_error(env, "packetDrain(fd)");
  for (int i = 0; i < 16 && (recv(fd, &byte, sizeof byte, MSG_DONTWAIT) >= 0 || errno == EINTR); i++) {}
  return NULL;
}

static void ring_gone(napi_env env, void *data, void *hint) {
  (void)env;
  munmap(data, (size_t)hint);
}

/* packetMap(fd, bytes) -> ArrayBuffer of the receive ring and the transmit ring behind it, or -errno */
static napi_value packet_map(napi_env env, napi_callback_info info) {
  napi_value a[2], out;
  int32_t fd, bytes;
  if (!nke_args(env, info, 2, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_i32(env, a[1], &bytes) || bytes <= 0)
    return nke_type_error(env, "packetMap(fd, bytes)");
  void *p = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (p == MAP_FAILED) return nke_i32(env, -errno);
  if (napi_create_external_arraybuffer(env, p, (size_t)bytes, ring_gone, (void *)(size_t)bytes, &out) != napi_ok) {
    munmap(p, (size_t)bytes);
    return nke_i32(env, -ENOMEM);
  }
  if (napi_type_tag_object(env, out, &ring_tag) != napi_ok) return nke_i32(env, -ENOMEM); /* unmapped when collected */
  return out;
}

/*
 * packetUnmap(rings) -> 0 or -errno. The mapping holds the socket open; plain memory takes its place, so that the socket ends with
 * its descriptor and not with the next garbage collection.
 */
static napi_value packet_unmap(napi_env env, napi_callback_info info) {
  napi_value a[1];
  void *p;
  size_t n;
  bool ours = false;
  if (!nke_args(env, info, 1, a) || napi_check_object_type_tag(env, a[0], &ring_tag, &ours) != napi_ok || !ours ||
      napi_get_arraybuffer_info(env, a[0], &p, &n) != napi_ok)
    return nke_type_error(env, "packetUnmap(rings): a buffer that packetMap made");
  void *q = mmap(p, n, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return nke_i32(env, q == MAP_FAILED ? -errno : 0);
}

/* packetBind(fd, interface index, EtherType; ETH_P_ALL is 3) -> 0 or -errno: from here on it receives. */
static napi_value packet_bind(napi_env env, napi_callback_info info) {
  napi_value a[3];
  int32_t fd, index, type;
  if (!nke_args(env, info, 3, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_i32(env, a[1], &index) || !nke_get_i32(env, a[2], &type))
    return nke_type_error(env, "packetBind(fd, index, type)");
  struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons((uint16_t)type), .sll_ifindex = index};
  return nke_i32(env, bind(fd, (struct sockaddr *)&to, sizeof to) == 0 ? 0 : -errno);
}

/* packetKick(fd) -> bytes of the frames that the kernel took from the transmit ring, or -errno */
static napi_value packet_kick(napi_env env, napi_callback_info info) {
  napi_value a[1];
  int32_t fd;
  if (!nke_args(env, info, 1, a) || !nke_get_i32(env, a[0], &fd)) return nke_type_error(env, "packetKick(fd)");
  ssize_t r;
  do r = send(fd, NULL, 0, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (r < 0 && errno == EINTR);
  return nke_i32(env, r < 0 ? -errno : (int32_t)r);
}

/* packetError(fd) -> the pending error of the socket, which is then cleared, as -errno; 0 when there was none */
static napi_value packet_error(napi_env env, napi_callback_info info) {
  napi_value a[1];
  int32_t fd;
  int e = 0;
  socklen_t n = sizeof e;
  if (!nke_args(env, info, 1, a) || !nke_get_i32(env, a[0], &fd)) return nke_type_error(env, "packetError(fd)");
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n) != 0) e = errno;
  return nke_i32(env, -e);
}

bool nke_packet_init(napi_env env, napi_value exports) {
  return nke_export(env, exports, "packetOpen", packet_open) && nke_export(env, exports, "packetSet", packet_set) &&
         nke_export(env, exports, "packetGet", packet_get) && nke_export(env, exports, "packetFilter", packet_filter) &&
         nke_export(env, exports, "packetSteer", packet_steer) &&
         nke_export(env, exports, "packetBuffer", packet_buffer) && nke_export(env, exports, "packetDrain", packet_drain) &&
          nke_export(env, exports, "packetMap", packet_map) &&
         nke_export(env, exports, "packetUnmap", packet_unmap) && nke_export(env, exports, "packetBind", packet_bind) &&
         nke_export(env, exports, "packetKick", packet_kick) && nke_export(env, exports, "packetError", packet_error);
}
