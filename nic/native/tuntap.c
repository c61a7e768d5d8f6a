/*
 * TUN and TAP devices (the kernel's Documentation/networking/tuntap.rst): open, interface ioctls (netdevice(7)), link
 * changes by rtnetlink(7), and read/write of whole batches in one call.
 *
 * Everything that belongs to an interface is opened inside its network namespace, so later ioctls need not enter it again.
 */
#include "nke.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/ipv6.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Words of the `out` array of tunOpen. STAGE says where it failed. */
enum { FD, CTL4, CTL6, LINK, INDEX, PERSISTENT, STAGE, OUT_WORDS };
enum { STAGE_NAMESPACE = 1, STAGE_DEVICE, STAGE_ATTACH, STAGE_CONTROL };

static void set_name(struct ifreq *r, const char *name) {
  memset(r, 0, sizeof *r);
  memcpy(r->ifr_name, name, strnlen(name, IFNAMSIZ - 1));
}

static int open_link_monitor(void) {
  struct sockaddr_nl at = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return -errno;
  if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0) {
    int e = errno;
    close(fd);
    return -e;
  }
  return fd;
}

/* Opens all four descriptors; on failure returns -errno and closes what was opened. */
static int open_all(const char *name, bool tap, int32_t *out) {
  struct ifreq r;
  int e;
  out[STAGE] = STAGE_DEVICE;
  out[FD] = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (out[FD] < 0) return -errno;
  out[STAGE] = STAGE_CONTROL;
  out[CTL4] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  out[CTL6] = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0); /* may be missing: a kernel without IPv6 */
  out[LINK] = open_link_monitor();
  if (out[CTL4] < 0 || out[LINK] < 0) {
    e = errno ? errno : ENOTSUP;
  } else {
    out[STAGE] = STAGE_ATTACH;
    set_name(&r, name);
    r.ifr_flags = (short)((tap ? IFF_TAP : IFF_TUN) | IFF_NO_PI);
    if (ioctl(out[FD], TUNSETIFF, &r) == 0) {
      set_name(&r, name);
      out[PERSISTENT] = ioctl(out[FD], TUNGETIFF, &r) == 0 && (r.ifr_flags & IFF_PERSIST) != 0;
      set_name(&r, name);
      out[INDEX] = ioctl(out[CTL4], SIOCGIFINDEX, &r) == 0 ? r.ifr_ifindex : 0;
      out[STAGE] = 0;
      return 0;
    }
    e = errno;
  }
  for (int i = FD; i <= LINK; i++)
    if (out[i] >= 0) close(out[i]);
  return -e;
}

/* tunOpen(name, tap, netns path?, out[7]) -> 0 or -errno; out = fd, ioctl sockets v4 and v6, link monitor, ifindex, ... */
static napi_value tun_open(napi_env env, napi_callback_info info) {
  napi_value a[4];
  char name[IFNAMSIZ], ns[256];
  bool tap;
  nke_words out;
  int saved;
  if (!nke_args(env, info, 4, a) || !nke_get_text(env, a[0], name, sizeof name) || name[0] == 0 || napi_get_value_bool(env, a[1], &tap) != napi_ok ||
      !nke_get_text(env, a[2], ns, sizeof ns) || !nke_get_words(env, a[3], &out) || out.n < OUT_WORDS)
    return nke_type_error(env, "tunOpen(name of at most 15 characters, tap, netns?, out[7])");
  for (int i = 0; i < OUT_WORDS; i++) out.p[i] = i <= LINK ? -1 : 0;
  out.p[STAGE] = STAGE_NAMESPACE;
  int r = nke_ns_enter(ns, &saved);
  if (r == 0) {
    r = open_all(name, tap, out.p);
    nke_ns_leave(saved);
  }
  return nke_i32(env, r);
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

static int address4(int fd, const char *name, const char *text, int prefix) {
  struct ifreq r;
  struct sockaddr_in at = {.sin_family = AF_INET};
  if (prefix < 0 || prefix > 32 || inet_pton(AF_INET, text, &at.sin_addr) != 1) return -EINVAL;
  set_name(&r, name);
  memcpy(&r.ifr_addr, &at, sizeof at);
  if (ioctl(fd, SIOCSIFADDR, &r) != 0) return -errno;
  at.sin_addr.s_addr = htonl(prefix == 0 ? 0 : 0xffffffffu << (32 - prefix));
  memcpy(&r.ifr_netmask, &at, sizeof at);
  return ioctl(fd, SIOCSIFNETMASK, &r) == 0 ? 0 : -errno;
}

static int address6(int fd, int index, const char *text, int prefix) {
  struct in6_ifreq r = {.ifr6_prefixlen = (uint32_t)prefix, .ifr6_ifindex = index};
  if (fd < 0) return -EAFNOSUPPORT;
  if (prefix < 0 || prefix > 128 || inet_pton(AF_INET6, text, &r.ifr6_addr) != 1) return -EINVAL;
  return ioctl(fd, SIOCSIFADDR, &r) == 0 ? 0 : -errno;
}

/* ifAddress(ctl4, ctl6, ifindex, name, address, prefix length) -> 0 or -errno: gives the interface an address. */
static napi_value if_address(napi_env env, napi_callback_info info) {
  napi_value a[6];
  int32_t c4, c6, index, prefix;
  char name[IFNAMSIZ], text[64];
  if (!nke_args(env, info, 6, a) || !nke_get_i32(env, a[0], &c4) || !nke_get_i32(env, a[1], &c6) || !nke_get_i32(env, a[2], &index) ||
      !nke_get_text(env, a[3], name, sizeof name) || !nke_get_text(env, a[4], text, sizeof text) || !nke_get_i32(env, a[5], &prefix))
    return nke_type_error(env, "ifAddress(ctl4, ctl6, ifindex, name, address, prefix)");
  return nke_i32(env, strchr(text, ':') ? address6(c6, index, text, prefix) : address4(c4, name, text, prefix));
}

/* linkPoll(fd, ifindex) -> flags of the interface as last announced, 0 when it is gone, -1 when there was no news. */
static napi_value link_poll(napi_env env, napi_callback_info info) {
  napi_value a[2];
  int32_t fd, index, flags = -1;
  union {
    struct nlmsghdr align;
    char bytes[16384];
  } buffer;
  if (!nke_args(env, info, 2, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_i32(env, a[1], &index)) return nke_type_error(env, "linkPoll(fd, ifindex)");
  for (int rounds = 0; rounds < 64; rounds++) {
    ssize_t got = recv(fd, &buffer, sizeof buffer, MSG_DONTWAIT);
    if (got < 0 && errno == ENOBUFS) continue; /* news was lost; what follows is newer */
    if (got <= 0) break;
    int left = (int)got;
    for (struct nlmsghdr *h = &buffer.align; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
      if ((h->nlmsg_type != RTM_NEWLINK && h->nlmsg_type != RTM_DELLINK) || h->nlmsg_len < NLMSG_LENGTH(sizeof(struct ifinfomsg))) continue;
      const struct ifinfomsg *i = NLMSG_DATA(h);
      if (i->ifi_family == AF_UNSPEC && i->ifi_index == index) flags = h->nlmsg_type == RTM_NEWLINK ? (int32_t)(i->ifi_flags & 0xffff) : 0;
    }
  }
  return nke_i32(env, flags);
}

typedef struct {
  int32_t fd, from, count;
  nke_bytes region;
  nke_words off, len, cap;
} batch_call;

/*
 * readBatch(fd, region, off, cap, count, len) -> packets read (0: nothing there) or -errno when the first read failed.
 * len[i] is negative (-bytes that fitted) for a packet that did not fit its room.
 */
static napi_value read_batch(napi_env env, napi_callback_info info) {
  napi_value a[6];
  batch_call c;
  char spill[4];
  if (!nke_args(env, info, 6, a) || !nke_get_i32(env, a[0], &c.fd) || !nke_get_bytes(env, a[1], &c.region) || !nke_get_words(env, a[2], &c.off) ||
      !nke_get_words(env, a[3], &c.cap) || !nke_get_i32(env, a[4], &c.count) || !nke_get_words(env, a[5], &c.len) || c.count < 0 ||
      (size_t)c.count > c.off.n || (size_t)c.count > c.cap.n || (size_t)c.count > c.len.n)
    return nke_type_error(env, "readBatch(fd, region, off, cap, count, len)");
  int32_t n = 0;
  while (n < c.count) {
    if (!nke_in(&c.region, c.off.p[n], c.cap.p[n])) return nke_i32(env, -EFAULT);
    struct iovec iov[2] = {{c.region.p + c.off.p[n], (size_t)c.cap.p[n]}, {spill, sizeof spill}};
    ssize_t r = readv(c.fd, iov, 2);
    if (r < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || n > 0) break;
      return nke_i32(env, -errno);
    }
    if (r == 0) break;
    c.len.p[n] = r > c.cap.p[n] ? -c.cap.p[n] - 1 : (int32_t)r;
    n++;
  }
  return nke_i32(env, n);
}

/*
 * writeBatch(fd, region, off, len, from, count) -> how many of the entries [from, count) were written before the first
 * failure; -errno when the entry `from` itself failed (-EAGAIN: full). Entries with a negative length are passed over.
 */
static napi_value write_batch(napi_env env, napi_callback_info info) {
  napi_value a[6];
  batch_call c;
  if (!nke_args(env, info, 6, a) || !nke_get_i32(env, a[0], &c.fd) || !nke_get_bytes(env, a[1], &c.region) || !nke_get_words(env, a[2], &c.off) ||
      !nke_get_words(env, a[3], &c.len) || !nke_get_i32(env, a[4], &c.from) || !nke_get_i32(env, a[5], &c.count) || c.from < 0 || c.count < c.from ||
      (size_t)c.count > c.off.n || (size_t)c.count > c.len.n)
    return nke_type_error(env, "writeBatch(fd, region, off, len, from, count)");
  int32_t i = c.from;
  while (i < c.count) {
    if (c.len.p[i] >= 0) {
      if (!nke_in(&c.region, c.off.p[i], c.len.p[i])) return nke_i32(env, -EFAULT);
      if (write(c.fd, c.region.p + c.off.p[i], (size_t)c.len.p[i]) < 0) {
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
  return nke_export(env, exports, "tunOpen", tun_open) && nke_export(env, exports, "ifGet", if_get) && nke_export(env, exports, "ifSet", if_set) &&
         nke_export(env, exports, "ifMac", if_mac) && nke_export(env, exports, "ifAddress", if_address) &&
         nke_export(env, exports, "linkPoll", link_poll) && nke_export(env, exports, "readBatch", read_batch) &&
         nke_export(env, exports, "writeBatch", write_batch);
}
