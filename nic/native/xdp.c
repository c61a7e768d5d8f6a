/*
 * AF_XDP sockets (the kernel's Documentation/networking/af_xdp.rst): socket, UMEM, rings, bind, wake-up calls, statistics. The
 * rings are mapped and handed to JavaScript as they are; who produces and consumes what is decided there.
 */
#include "nke.h"

#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/if_packet.h>
#include <linux/if_xdp.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef XDP_MAX_TX_SKB_BUDGET
#define XDP_MAX_TX_SKB_BUDGET 9 /* Linux 6.17 */
#endif

/* Marks the ArrayBuffers that are rings, so that no other memory is ever unmapped. */
static const napi_type_tag ring_tag = {0x6e6b652e7264702eULL, 0x78736b2e72696e67ULL};

static int in_namespace(const char *ns, int family, int type) {
  int saved;
  int r = nke_ns_enter(ns, &saved);
  if (r != 0) return r;
  int fd = socket(family, type | SOCK_CLOEXEC, 0);
  r = fd < 0 ? -errno : fd;
  nke_ns_leave(saved);
  return r;
}

/* xdpOpen(netns path?) -> fd of an AF_XDP socket, or -errno (-EAFNOSUPPORT: a kernel without) */
static napi_value xdp_open(napi_env env, napi_callback_info info) {
  napi_value a[1];
  char ns[256];
  if (!nke_args(env, info, 1, a) || !nke_get_text(env, a[0], ns, sizeof ns)) return nke_type_error(env, "xdpOpen(netns?)");
  return nke_i32(env, in_namespace(ns, AF_XDP, SOCK_RAW));
}

/*
 * xdpUmem(fd, region, chunk bytes, headroom, flags) -> 0 or -errno: makes the whole pages of `region` the socket's packet
 * memory. The kernel holds the pages for as long as the socket lives; headroom is what it leaves free in a chunk beside its own
 * XDP_PACKET_HEADROOM. -EINVAL: the region does not begin at a page.
 */
static napi_value xdp_umem(napi_env env, napi_callback_info info) {
  napi_value a[5];
  int32_t fd, chunk, headroom, flags;
  nke_bytes region;
  if (!nke_args(env, info, 5, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_bytes(env, a[1], &region) || !nke_get_i32(env, a[2], &chunk) ||
      !nke_get_i32(env, a[3], &headroom) || !nke_get_i32(env, a[4], &flags))
    return nke_type_error(env, "xdpUmem(fd, region, chunk bytes, headroom, flags)");
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  struct xdp_umem_reg reg = {
    .addr = (uint64_t)(uintptr_t)region.p, .len = region.n / page * page, .chunk_size = (uint32_t)chunk, .headroom = (uint32_t)headroom,
    .flags = (uint32_t)flags};
  if ((uintptr_t)region.p % page != 0) return nke_i32(env, -EINVAL);
  return nke_i32(env, setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof reg) == 0 ? 0 : -errno);
}

static void ring_gone(napi_env env, void *data, void *hint) {
  (void)env;
  munmap(data, (size_t)hint);
}

/*
 * xdpRing(fd, which: 0 receive | 1 transmit | 2 fill | 3 completion, entries, out[4]) -> ArrayBuffer over the mapped ring, or
 * -errno. out = byte offsets of producer, consumer, flags and the first entry: u32, u32, u32, entries of 16 bytes (receive,
 * transmit: u64 address, u32 length, u32 options) or 8 (fill, completion: u64 address).
 */
static napi_value xdp_ring(napi_env env, napi_callback_info info) {
  static const struct {
    int option;
    off_t at;
    size_t entry;
  } rings[4] = {{XDP_RX_RING, XDP_PGOFF_RX_RING, sizeof(struct xdp_desc)},
                {XDP_TX_RING, XDP_PGOFF_TX_RING, sizeof(struct xdp_desc)},
                {XDP_UMEM_FILL_RING, (off_t)XDP_UMEM_PGOFF_FILL_RING, 8},
                {XDP_UMEM_COMPLETION_RING, (off_t)XDP_UMEM_PGOFF_COMPLETION_RING, 8}};
  napi_value a[4], out;
  int32_t fd, which, entries;
  nke_words where;
  if (!nke_args(env, info, 4, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_i32(env, a[1], &which) || !nke_get_i32(env, a[2], &entries) ||
      !nke_get_words(env, a[3], &where) || which < 0 || which > 3 || entries < 1 || entries > 1 << 20 || where.n < 4)
    return nke_type_error(env, "xdpRing(fd, which, entries, out[4])");
  struct xdp_mmap_offsets offsets;
  socklen_t size = sizeof offsets;
  if (setsockopt(fd, SOL_XDP, rings[which].option, &entries, sizeof entries) != 0) return nke_i32(env, -errno);
  if (getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &size) != 0) return nke_i32(env, -errno);
  if (size != sizeof offsets) return nke_i32(env, -ENOTSUP); /* Linux before 5.4 tells no flags */
  const struct xdp_ring_offset *o = which == 0 ? &offsets.rx : which == 1 ? &offsets.tx : which == 2 ? &offsets.fr : &offsets.cr;
  size_t bytes = o->desc + (size_t)entries * rings[which].entry;
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, rings[which].at);
  if (p == MAP_FAILED) return nke_i32(env, -errno);
  if (napi_create_external_arraybuffer(env, p, bytes, ring_gone, (void *)bytes, &out) != napi_ok) {
    munmap(p, bytes);
    return nke_i32(env, -ENOMEM);
  }
  if (napi_type_tag_object(env, out, &ring_tag) != napi_ok) return nke_i32(env, -ENOMEM); /* unmapped when collected */
  where.p[0] = (int32_t)o->producer;
  where.p[1] = (int32_t)o->consumer;
  where.p[2] = (int32_t)o->flags;
  where.p[3] = (int32_t)o->desc;
  return out;
}

/*
 * xdpUnring(ring) -> 0 or -errno. The mapping holds the socket open; plain memory takes its place, so that the socket ends with
 * its descriptor and not with the next garbage collection, and what still looks at the array sees zeros.
 */
static napi_value xdp_unring(napi_env env, napi_callback_info info) {
  napi_value a[1];
  void *p;
  size_t n;
  bool ours = false;
  if (!nke_args(env, info, 1, a) || napi_check_object_type_tag(env, a[0], &ring_tag, &ours) != napi_ok || !ours ||
      napi_get_arraybuffer_info(env, a[0], &p, &n) != napi_ok)
    return nke_type_error(env, "xdpUnring(ring): a buffer that xdpRing made");
  void *q = mmap(p, n, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return nke_i32(env, q == MAP_FAILED ? -errno : 0);
}

/* xdpBind(fd, interface index, queue, flags, fd that shares its UMEM) -> 0 or -errno */
static napi_value xdp_bind(napi_env env, napi_callback_info info) {
  napi_value a[5];
  int32_t v[5];
  if (!nke_args(env, info, 5, a)) return NULL;
  for (int i = 0; i < 5; i++)
    if (!nke_get_i32(env, a[i], &v[i])) return nke_type_error(env, "xdpBind(fd, interface, queue, flags, shared fd)");
  struct sockaddr_xdp to = {.sxdp_family = AF_XDP,
                            .sxdp_flags = (uint16_t)v[3],
                            .sxdp_ifindex = (uint32_t)v[1],
                            .sxdp_queue_id = (uint32_t)v[2],
                            .sxdp_shared_umem_fd = (uint32_t)v[4]};
  return nke_i32(env, bind(v[0], (struct sockaddr *)&to, sizeof to) == 0 ? 0 : -errno);
}

/* xdpSendRoom(fd, bytes, packets): how much one wake-up call may send; a kernel that knows no such option keeps its own. */
static napi_value xdp_send_room(napi_env env, napi_callback_info info) {
  napi_value a[3];
  int32_t fd, bytes, packets;
  if (!nke_args(env, info, 3, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_i32(env, a[1], &bytes) || !nke_get_i32(env, a[2], &packets))
    return nke_type_error(env, "xdpSendRoom(fd, bytes, packets)");
  if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  return nke_i32(env, setsockopt(fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &packets, sizeof packets) == 0 ? 0 : -errno);
}

/* xdpKick(fd, transmit) -> 0 or -errno: the kernel looks at the transmit ring, or at the fill ring. */
static napi_value xdp_kick(napi_env env, napi_callback_info info) {
  napi_value a[2];
  int32_t fd;
  bool transmit = false;
  if (!nke_args(env, info, 2, a) || !nke_get_i32(env, a[0], &fd) || napi_get_value_bool(env, a[1], &transmit) != napi_ok)
    return nke_type_error(env, "xdpKick(fd, transmit)");
  ssize_t r = transmit ? sendto(fd, NULL, 0, MSG_DONTWAIT, NULL, 0) : recvfrom(fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
  return nke_i32(env, r < 0 ? -errno : 0);
}

/* xdpStatistics(fd, out[6]) -> 0 or -errno; out in the order of struct xdp_statistics */
static napi_value xdp_statistics(napi_env env, napi_callback_info info) {
  napi_value a[2];
  int32_t fd;
  nke_words out;
  if (!nke_args(env, info, 2, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_words(env, a[1], &out) || out.n < 6)
    return nke_type_error(env, "xdpStatistics(fd, out[6])");
  uint64_t v[6] = {0};
  socklen_t size = sizeof v;
  if (getsockopt(fd, SOL_XDP, XDP_STATISTICS, v, &size) != 0) return nke_i32(env, -errno);
  for (int i = 0; i < 6; i++) out.p[i] = (int32_t)v[i];
  return nke_i32(env, 0);
}

/* xdpZeroCopy(fd) -> 1 when the driver works on the UMEM itself, else 0, or -errno */
static napi_value xdp_zero_copy(napi_env env, napi_callback_info info) {
  napi_value a[1];
  int32_t fd;
  if (!nke_args(env, info, 1, a) || !nke_get_i32(env, a[0], &fd)) return nke_type_error(env, "xdpZeroCopy(fd)");
  struct xdp_options o = {0};
  socklen_t size = sizeof o;
  if (getsockopt(fd, SOL_XDP, XDP_OPTIONS, &o, &size) != 0) return nke_i32(env, -errno);
  return nke_i32(env, (o.flags & XDP_OPTIONS_ZEROCOPY) != 0);
}

/* xdpDriver(fd of a netlink socket, interface) -> the driver's name (ETHTOOL_GDRVINFO), or -errno */
static napi_value xdp_driver(napi_env env, napi_callback_info info) {
  napi_value a[2], out;
  int32_t fd;
  char name[IFNAMSIZ];
  struct ethtool_drvinfo d = {.cmd = ETHTOOL_GDRVINFO};
  struct ifreq r = {0};
  if (!nke_args(env, info, 2, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_text(env, a[1], name, sizeof name)) return nke_type_error(env, "xdpDriver(fd, name)");
  memcpy(r.ifr_name, name, sizeof name);
  r.ifr_data = (void *)&d;
  if (ioctl(fd, SIOCETHTOOL, &r) != 0) return nke_i32(env, -errno);
  if (napi_create_string_utf8(env, d.driver, strnlen(d.driver, sizeof d.driver), &out) != napi_ok) return NULL;
  return out;
}

/*
 * xdpStation(netns path?) -> fd of a packet socket that receives nothing, or -errno. What it asks an interface to receive ends
 * with it.
 */
static napi_value xdp_station(napi_env env, napi_callback_info info) {
  napi_value a[1];
  char ns[256];
  if (!nke_args(env, info, 1, a) || !nke_get_text(env, a[0], ns, sizeof ns)) return nke_type_error(env, "xdpStation(netns?)");
  return nke_i32(env, in_namespace(ns, AF_PACKET, SOCK_RAW));
}

/* xdpReceiveAlso(fd, interface index, mac[6] or undefined: all multicast) -> 0 or -errno */
static napi_value xdp_receive_also(napi_env env, napi_callback_info info) {
  napi_value a[3];
  napi_valuetype type;
  int32_t fd, index;
  nke_bytes mac = {NULL, 0};
  if (!nke_args(env, info, 3, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_i32(env, a[1], &index) || napi_typeof(env, a[2], &type) != napi_ok ||
      (type != napi_undefined && (!nke_get_bytes(env, a[2], &mac) || mac.n != 6)))
    return nke_type_error(env, "xdpReceiveAlso(fd, interface, mac[6]?)");
  struct packet_mreq m = {.mr_ifindex = index, .mr_type = mac.n ? PACKET_MR_UNICAST : PACKET_MR_ALLMULTI, .mr_alen = (unsigned short)mac.n};
  if (mac.n) memcpy(m.mr_address, mac.p, mac.n);
  return nke_i32(env, setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &m, sizeof m) == 0 ? 0 : -errno);
}

bool nke_xdp_init(napi_env env, napi_value exports) {
  return nke_export(env, exports, "xdpOpen", xdp_open) && nke_export(env, exports, "xdpUmem", xdp_umem) &&
         nke_export(env, exports, "xdpRing", xdp_ring) && nke_export(env, exports, "xdpUnring", xdp_unring) &&
         nke_export(env, exports, "xdpBind", xdp_bind) && nke_export(env, exports, "xdpSendRoom", xdp_send_room) &&
         nke_export(env, exports, "xdpKick", xdp_kick) && nke_export(env, exports, "xdpStatistics", xdp_statistics) &&
         nke_export(env, exports, "xdpZeroCopy", xdp_zero_copy) && nke_export(env, exports, "xdpDriver", xdp_driver) &&
         nke_export(env, exports, "xdpStation", xdp_station) && nke_export(env, exports, "xdpReceiveAlso", xdp_receive_also);
}
