/*
 * TUN and TAP devices (the kernel's Documentation/networking/tuntap.rst): open, interface ioctls (netdevice(7)), and read/write
 * of whole batches in one call, with a virtio_net_hdr in front of each packet on demand (IFF_VNET_HDR).
 *
 * Everything that belongs to an interface is opened inside its network namespace, so later ioctls need not enter it again.
 */
#include "nke.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Words of the `out` array of tunOpen. STAGE says where it failed. */
enum { FD, CTL, PERSISTENT, STAGE, OUT_WORDS };
enum { STAGE_NAMESPACE = 1, STAGE_DEVICE, STAGE_ATTACH, STAGE_CONTROL };
/* Flags of tunOpen and tunQueue. */
enum { OPEN_TAP = 1, OPEN_QUEUES = 2, OPEN_HEADERS = 4 };
#define HEADER 10 /* struct virtio_net_hdr */

static void set_name(struct ifreq *r, const char *name) {
  memset(r, 0, sizeof *r);
  memcpy(r->ifr_name, name, strnlen(name, IFNAMSIZ - 1));
}

/* One queue of the interface: a descriptor that is attached, or -errno. *stage says where it failed. */
static int open_queue(const char *name, int32_t flags, int32_t *stage) {
  struct ifreq r;
  int size = HEADER;
  *stage = STAGE_DEVICE;
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return -errno;
  *stage = STAGE_ATTACH;
  set_name(&r, name);
  r.ifr_flags = (short)((flags & OPEN_TAP ? IFF_TAP : IFF_TUN) | IFF_NO_PI | (flags & OPEN_QUEUES ? IFF_MULTI_QUEUE : 0) |
                        (flags & OPEN_HEADERS ? IFF_VNET_HDR : 0));
  if (ioctl(fd, TUNSETIFF, &r) != 0 || ((flags & OPEN_HEADERS) && ioctl(fd, TUNSETVNETHDRSZ, &size) != 0)) {
    int e = errno;
    close(fd);
    return -e;
  }
  return fd;
}

/* Opens all descriptors; on failure returns -errno and closes what was opened. */
static int open_all(const char *name, int32_t flags, int32_t *out) {
  struct ifreq r;
  int e;
  out[STAGE] = STAGE_CONTROL;
  out[CTL] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (out[CTL] < 0) return -errno;
  out[FD] = open_queue(name, flags, &out[STAGE]);
  if (out[FD] >= 0) {
    set_name(&r, name);
    out[PERSISTENT] = ioctl(out[FD], TUNGETIFF, &r) == 0 && (r.ifr_flags & IFF_PERSIST) != 0;
    out[STAGE] = 0;
    return 0;
  }
  e = -out[FD];
  out[FD] = -1;
  close(out[CTL]);
  out[CTL] = -1;
  return -e;
}

/* tunOpen(name, flags, netns path?, out[4]) -> 0 or -errno; out = fd, socket for ioctls, persistent, stage */
static napi_value tun_open(napi_env env, napi_callback_info info) {
  napi_value a[4];
  char name[IFNAMSIZ], ns[256];
  int32_t flags;
  nke_words out;
  int saved;
  if (!nke_args(env, info, 4, a) || !nke_get_text(env, a[0], name, sizeof name) || name[0] == 0 || !nke_get_i32(env, a[1], &flags) ||
      !nke_get_text(env, a[2], ns, sizeof ns) || !nke_get_words(env, a[3], &out) || out.n < OUT_WORDS)
    return nke_type_error(env, "tunOpen(name of at most 15 characters, flags, netns?, out[4])");
  for (int i = 0; i < OUT_WORDS; i++) out.p[i] = i <= CTL ? -1 : 0;
  out.p[STAGE] = STAGE_NAMESPACE;
  int r = nke_ns_enter(ns, &saved);
  if (r == 0) {
    r = open_all(name, flags, out.p);
    nke_ns_leave(saved);
  }
  return nke_i32(env, r);
}

/* tunQueue(name, flags, netns path?) -> fd of one more queue of an interface that is open with several, or -errno */
static napi_value tun_queue(napi_env env, napi_callback_info info) {
  napi_value a[3];
  char name[IFNAMSIZ], ns[256];
  int32_t flags, stage;
  int saved;
  if (!nke_args(env, info, 3, a) || !nke_get_text(env, a[0], name, sizeof name) || name[0] == 0 || !nke_get_i32(env, a[1], &flags) ||
      !nke_get_text(env, a[2], ns, sizeof ns))
    return nke_type_error(env, "tunQueue(name, flags, netns?)");
  int r = nke_ns_enter(ns, &saved);
  if (r == 0) {
    r = open_queue(name, flags, &stage);
    nke_ns_leave(saved);
  }
  return nke_i32(env, r);
}

/* tunOffload(fd, TUN_F_* bits) -> 0 or -errno: what the kernel side may leave to us. */
static napi_value tun_offload(napi_env env, napi_callback_info info) {
  napi_value a[2];
  int32_t fd, bits;
  if (!nke_args(env, info, 2, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_i32(env, a[1], &bits)) return nke_type_error(env, "tunOffload(fd, bits)");
  return nke_i32(env, ioctl(fd, TUNSETOFFLOAD, (unsigned long)bits) == 0 ? 0 : -errno);
}

/* tunSteer(fd, program) -> 0 or -errno: a loaded socket filter picks the queue of what the kernel side sends; -1 takes it back. */
static napi_value tun_steer(napi_env env, napi_callback_info info) {
  napi_value a[2];
  int32_t fd, program;
  if (!nke_args(env, info, 2, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_i32(env, a[1], &program)) return nke_type_error(env, "tunSteer(fd, program)");
  int r = program;
  return nke_i32(env, ioctl(fd, TUNSETSTEERINGEBPF, &r) == 0 ? 0 : -errno);
}

/* ifGet(ctl, name, what: 0 flags | 1 MTU) -> value or -errno */
static napi_value if_get(napi_env env, napi_callback_info info) {
  napi_value a[3];
  int32_t fd, what;
  char name[IFNAMSIZ];
  struct ifreq r;
  if (!nke_args(env, info, 3, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_text(env, a[1], name, sizeof name) || !nke_get_i32(env, a[2], &what))
    return nke_type_error(env, "ifGet(ctl, name, what)");
  set_name(&r, name);
  if (ioctl(fd, what == 1 ? SIOCGIFMTU : SIOCGIFFLAGS, &r) != 0) return nke_i32(env, -errno);
  return nke_i32(env, what == 1 ? r.ifr_mtu : (unsigned short)r.ifr_flags);
}

/* ifSet(ctl, name, what: 0 up | 1 MTU, value) -> 0 or -errno */
static napi_value if_set(napi_env env, napi_callback_info info) {
  napi_value a[4];
  int32_t fd, what, value;
  char name[IFNAMSIZ];
  struct ifreq r;
  if (!nke_args(env, info, 4, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_text(env, a[1], name, sizeof name) || !nke_get_i32(env, a[2], &what) ||
      !nke_get_i32(env, a[3], &value))
    return nke_type_error(env, "ifSet(ctl, name, what, value)");
  set_name(&r, name);
  if (what == 1) {
    r.ifr_mtu = value;
    return nke_i32(env, ioctl(fd, SIOCSIFMTU, &r) == 0 ? 0 : -errno);
  }
  if (ioctl(fd, SIOCGIFFLAGS, &r) != 0) return nke_i32(env, -errno);
  r.ifr_flags = (short)(value ? r.ifr_flags | IFF_UP : r.ifr_flags & ~IFF_UP);
  return nke_i32(env, ioctl(fd, SIOCSIFFLAGS, &r) == 0 ? 0 : -errno);
}

/* ifMac(ctl, name, mac: Uint8Array(6), set) -> 0 or -errno: reads or sets the hardware address. */
static napi_value if_mac(napi_env env, napi_callback_info info) {
  napi_value a[4];
  int32_t fd;
  char name[IFNAMSIZ];
  nke_bytes mac;
  bool set = false;
  struct ifreq r;
  if (!nke_args(env, info, 4, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_text(env, a[1], name, sizeof name) || !nke_get_bytes(env, a[2], &mac) ||
      mac.n != 6 || napi_get_value_bool(env, a[3], &set) != napi_ok)
    return nke_type_error(env, "ifMac(ctl, name, mac[6], set)");
  set_name(&r, name);
  if (set) {
    r.ifr_hwaddr.sa_family = 1; /* ARPHRD_ETHER */
    memcpy(r.ifr_hwaddr.sa_data, mac.p, 6);
    return nke_i32(env, ioctl(fd, SIOCSIFHWADDR, &r) == 0 ? 0 : -errno);
  }
  if (ioctl(fd, SIOCGIFHWADDR, &r) != 0) return nke_i32(env, -errno);
  memcpy(mac.p, r.ifr_hwaddr.sa_data, 6);
  return nke_i32(env, 0);
}

typedef struct {
  int32_t fd, from, count;
  nke_bytes region, headers; /* headers.p is NULL for an interface without them */
  nke_words off, len, cap;
} batch_call;

/* The optional array of HEADER bytes an entry. */
static bool get_headers(napi_env env, napi_value v, batch_call *c) {
  napi_valuetype type;
  c->headers.p = NULL;
  if (napi_typeof(env, v, &type) != napi_ok) return false;
  if (type == napi_undefined) return true;
  return nke_get_bytes(env, v, &c->headers) && (size_t)c->count <= c->headers.n / HEADER;
}

/*
 * readBatch(fd, region, off, cap, from, count, len, headers?) -> packets read into the entries from `from` on (0: nothing there) or
 * -errno when the first read failed. len[i] is negative (-bytes that fitted - 1) for a packet that did not fit its room.
 */
static napi_value read_batch(napi_env env, napi_callback_info info) {
  napi_value a[8];
  batch_call c;
  char spill[4];
  if (!nke_args(env, info, 8, a) || !nke_get_i32(env, a[0], &c.fd) || !nke_get_bytes(env, a[1], &c.region) || !nke_get_words(env, a[2], &c.off) ||
      !nke_get_words(env, a[3], &c.cap) || !nke_get_i32(env, a[4], &c.from) || !nke_get_i32(env, a[5], &c.count) || !nke_get_words(env, a[6], &c.len) ||
      c.from < 0 || c.count < c.from || (size_t)c.count > c.off.n || (size_t)c.count > c.cap.n || (size_t)c.count > c.len.n ||
      !get_headers(env, a[7], &c))
    return nke_type_error(env, "readBatch(fd, region, off, cap, from, count, len, headers?)");
  int32_t n = c.from;
  ssize_t head = c.headers.p ? HEADER : 0;
  while (n < c.count) {
    if (!nke_in(&c.region, c.off.p[n], c.cap.p[n])) return nke_i32(env, -EFAULT);
    struct iovec iov[3] = {{c.headers.p ? c.headers.p + (size_t)n * HEADER : NULL, (size_t)head}, {c.region.p + c.off.p[n], (size_t)c.cap.p[n]}, {spill, sizeof spill}};
    ssize_t r = readv(c.fd, head ? iov : iov + 1, head ? 3 : 2);
    if (r < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || n > c.from) break;
      return nke_i32(env, -errno);
    }
    r -= head;
    if (r <= 0) break;
    c.len.p[n] = r > c.cap.p[n] ? -c.cap.p[n] - 1 : (int32_t)r;
    n++;
  }
  return nke_i32(env, n - c.from);
}

/*
 * writeBatch(fd, region, off, len, from, count, headers?) -> how many of the entries [from, count) were written before the first
 * failure; -errno when the entry `from` itself failed (-EAGAIN: full). Entries with a negative length are passed over.
 */
static napi_value write_batch(napi_env env, napi_callback_info info) {
  napi_value a[7];
  batch_call c;
  if (!nke_args(env, info, 7, a) || !nke_get_i32(env, a[0], &c.fd) || !nke_get_bytes(env, a[1], &c.region) || !nke_get_words(env, a[2], &c.off) ||
      !nke_get_words(env, a[3], &c.len) || !nke_get_i32(env, a[4], &c.from) || !nke_get_i32(env, a[5], &c.count) || c.from < 0 || c.count < c.from ||
      (size_t)c.count > c.off.n || (size_t)c.count > c.len.n || !get_headers(env, a[6], &c))
    return nke_type_error(env, "writeBatch(fd, region, off, len, from, count, headers?)");
  int32_t i = c.from;
  while (i < c.count) {
    if (c.len.p[i] >= 0) {
      if (!nke_in(&c.region, c.off.p[i], c.len.p[i])) return nke_i32(env, -EFAULT);
      struct iovec iov[2] = {{c.headers.p ? c.headers.p + (size_t)i * HEADER : NULL, HEADER}, {c.region.p + c.off.p[i], (size_t)c.len.p[i]}};
      if ((c.headers.p ? writev(c.fd, iov, 2) : write(c.fd, iov[1].iov_base, iov[1].iov_len)) < 0) {
        if (errno == EINTR) continue;
        if (i == c.from) return nke_i32(env, -errno);
        break;
      }
    }
    i++;
  }
  return nke_i32(env, i - c.from);
}

bool nke_tuntap_init(napi_env env, napi_value exports) {
  return nke_export(env, exports, "tunOpen", tun_open) && nke_export(env, exports, "tunQueue", tun_queue) &&
         nke_export(env, exports, "tunOffload", tun_offload) && nke_export(env, exports, "tunSteer", tun_steer) && nke_export(env, exports, "ifGet", if_get) && nke_export(env, exports, "ifSet", if_set) &&
         nke_export(env, exports, "ifMac", if_mac) &&
         nke_export(env, exports, "readBatch", read_batch) &&
         nke_export(env, exports, "writeBatch", write_batch);
}
