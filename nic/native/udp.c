/*
 * UDP sockets for SCTP in UDP (RFC 6951): whole batches by sendmmsg/recvmmsg, trains by UDP_SEGMENT and UDP_GRO (udp(7)),
 * and, fused with both, the CRC32c of every SCTP packet.
 *
 * A batch is described by one Int32Array, ROW words per datagram:
 *   0 off   1 len   2 segsz   3 port   4 tos   5..8 address (IPv4 in word 8, as ::ffff:a.b.c.d; words in host order)
 *   9 result: send: errno of an entry that could not be sent, else 0; receive: MSG_TRUNC -> EMSGSIZE
 *  10 receive: room at off in, number of packets with a wrong CRC32c out
 *  11 of the first row: 1 when the socket had a pending ICMP error
 */
#include "nke.h"

#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

enum { OFF, LEN, SEGSZ, PORT, TOS, W0, W1, W2, W3, RESULT, CAP, PENDING, ROW };
enum { OPEN_GRO = 1, OPEN_REUSE = 2, OPEN_GROUP = 4 };
enum { IO_CRC = 1, IO_V6 = 2, IO_SPLIT = 4 };

typedef union {
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
} address;

typedef union {
  struct cmsghdr align;
  char bytes[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(int))];
} control;

static _Thread_local struct mmsghdr msgs[NKE_BATCH];
static _Thread_local struct iovec iovs[NKE_BATCH];
static _Thread_local address addrs[NKE_BATCH];
static _Thread_local control controls[NKE_BATCH];
static _Thread_local struct mmsghdr piece_msgs[NKE_SEGMENTS];
static _Thread_local struct iovec piece_iovs[NKE_SEGMENTS];

static int buffer_size(int fd, int force, int plain, int bytes) {
  if (bytes <= 0 || setsockopt(fd, SOL_SOCKET, force, &bytes, sizeof bytes) == 0) return 0;
  return setsockopt(fd, SOL_SOCKET, plain, &bytes, sizeof bytes);
}

/* Options of an open socket. Path MTU: DF on every packet and no opinion of the kernel's own (PROBE), so that the stack's
   path MTU discovery (RFC 8899) sees the path as it is. */
static int set_options(int fd, bool v6, int flags, int rcvbuf, int sndbuf) {
  int one = 1, probe = v6 ? IPV6_PMTUDISC_PROBE : IP_PMTUDISC_PROBE;
  int level = v6 ? IPPROTO_IPV6 : IPPROTO_IP;
  if (v6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one)) return -errno;
  if (flags & OPEN_REUSE && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one)) return -errno;
  if (flags & OPEN_GROUP && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one)) return -errno;
  if (setsockopt(fd, level, v6 ? IPV6_MTU_DISCOVER : IP_MTU_DISCOVER, &probe, sizeof probe)) return -errno;
  if (setsockopt(fd, level, v6 ? IPV6_RECVERR : IP_RECVERR, &one, sizeof one)) return -errno;
  if (setsockopt(fd, level, v6 ? IPV6_RECVTCLASS : IP_RECVTOS, &one, sizeof one)) return -errno;
  if (flags & OPEN_GRO && setsockopt(fd, SOL_UDP, UDP_GRO, &one, sizeof one)) return -errno;
  if (buffer_size(fd, SO_RCVBUFFORCE, SO_RCVBUF, rcvbuf) || buffer_size(fd, SO_SNDBUFFORCE, SO_SNDBUF, sndbuf)) return -errno;
  return 0;
}

static int open_bound(const char *text, int port, int flags, int rcvbuf, int sndbuf) {
  address at;
  memset(&at, 0, sizeof at);
  bool v6 = strchr(text, ':') != NULL;
  if (v6) {
    at.v6.sin6_family = AF_INET6;
    at.v6.sin6_port = htons((uint16_t)port);
    if (inet_pton(AF_INET6, text, &at.v6.sin6_addr) != 1) return -EINVAL;
  } else {
    at.v4.sin_family = AF_INET;
    at.v4.sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, text, &at.v4.sin_addr) != 1) return -EINVAL;
  }
  int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
  if (fd < 0) return -errno;
  int r = set_options(fd, v6, flags, rcvbuf, sndbuf);
  if (r == 0 && bind(fd, (struct sockaddr *)&at, v6 ? sizeof at.v6 : sizeof at.v4) != 0) r = -errno;
  if (r != 0) {
    close(fd);
    return r;
  }
  return fd;
}

/* udpOpen(address, port, flags: 1 GRO | 2 reuse | 4 one of a group, rcvbuf, sndbuf, netns path?) -> fd or -errno */
static napi_value udp_open(napi_env env, napi_callback_info info) {
  napi_value a[6];
  char text[64], ns[256];
  int32_t port, flags, rcvbuf, sndbuf;
  int saved;
  if (!nke_args(env, info, 6, a) || !nke_get_text(env, a[0], text, sizeof text) || !nke_get_i32(env, a[1], &port) ||
      !nke_get_i32(env, a[2], &flags) || !nke_get_i32(env, a[3], &rcvbuf) || !nke_get_i32(env, a[4], &sndbuf) ||
      !nke_get_text(env, a[5], ns, sizeof ns) || port < 0 || port > 65535)
    return nke_type_error(env, "udpOpen(address, port, flags, rcvbuf, sndbuf, netns?)");
  int r = nke_ns_enter(ns, &saved);
  if (r != 0) return nke_i32(env, r);
  r = open_bound(text, port, flags, rcvbuf, sndbuf);
  nke_ns_leave(saved);
  return nke_i32(env, r);
}

/*
 * udpSteer(fd, program of struct sock_filter) -> 0 or -errno: the classic BPF program that picks, for every datagram to the
 * group of sockets that share this one's address (SO_REUSEPORT, socket(7)), which of them gets it, by number in the order of
 * binding. The program sees the UDP payload at 0.
 */
static napi_value udp_steer(napi_env env, napi_callback_info info) {
  napi_value a[2];
  int32_t fd;
  nke_bytes b;
  if (!nke_args(env, info, 2, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_bytes(env, a[1], &b) || b.n == 0 ||
      b.n % sizeof(struct sock_filter) != 0 || b.n / sizeof(struct sock_filter) > 4096)
    return nke_type_error(env, "udpSteer(fd, whole instructions, at most 4096)");
  struct sock_fprog program = {.len = (unsigned short)(b.n / sizeof(struct sock_filter)), .filter = (struct sock_filter *)(void *)b.p};
  return nke_i32(env, setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program) == 0 ? 0 : -errno);
}

/* udpPort(fd) -> local port or -errno */
static napi_value udp_port(napi_env env, napi_callback_info info) {
  napi_value a[1];
  int32_t fd;
  address at;
  socklen_t n = sizeof at;
  if (!nke_args(env, info, 1, a) || !nke_get_i32(env, a[0], &fd)) return nke_type_error(env, "udpPort(fd)");
  if (getsockname(fd, (struct sockaddr *)&at, &n) != 0) return nke_i32(env, -errno);
  return nke_i32(env, ntohs(at.v4.sin_family == AF_INET6 ? at.v6.sin6_port : at.v4.sin_port));
}

typedef struct {
  int32_t fd, count, flags;
  nke_bytes region;
  nke_words rows;
} io_call;

static bool io_args(napi_env env, napi_callback_info info, io_call *c) {
  napi_value a[5];
  return nke_args(env, info, 5, a) && nke_get_i32(env, a[0], &c->fd) && nke_get_bytes(env, a[1], &c->region) &&
         nke_get_words(env, a[2], &c->rows) && nke_get_i32(env, a[3], &c->count) && nke_get_i32(env, a[4], &c->flags) && c->count >= 0 &&
         c->count <= NKE_BATCH && (size_t)c->count * ROW <= c->rows.n;
}

static void put_address(address *at, struct msghdr *m, const int32_t *row, bool v6) {
  if (v6) {
    memset(&at->v6, 0, sizeof at->v6);
    at->v6.sin6_family = AF_INET6;
    at->v6.sin6_port = htons((uint16_t)row[PORT]);
    for (int w = 0; w < 4; w++) at->v6.sin6_addr.s6_addr32[w] = htonl((uint32_t)row[W0 + w]);
    m->msg_namelen = sizeof at->v6;
  } else {
    memset(&at->v4, 0, sizeof at->v4);
    at->v4.sin_family = AF_INET;
    at->v4.sin_port = htons((uint16_t)row[PORT]);
    at->v4.sin_addr.s_addr = htonl((uint32_t)row[W3]);
    m->msg_namelen = sizeof at->v4;
  }
  m->msg_name = at;
}

/* Ancillary data: the traffic class (ECN and DSCP of the packet's own header) and the segment size. */
static void put_control(control *c, struct msghdr *m, const int32_t *row, bool v6, bool segment) {
  size_t used = 0;
  memset(c, 0, sizeof *c);
  m->msg_control = c;
  m->msg_controllen = sizeof *c;
  struct cmsghdr *h = CMSG_FIRSTHDR(m);
  if (row[TOS] != 0) {
    int tos = row[TOS];
    h->cmsg_level = v6 ? IPPROTO_IPV6 : IPPROTO_IP;
    h->cmsg_type = v6 ? IPV6_TCLASS : IP_TOS;
    h->cmsg_len = CMSG_LEN(sizeof tos);
    memcpy(CMSG_DATA(h), &tos, sizeof tos);
    used += CMSG_SPACE(sizeof tos);
    h = CMSG_NXTHDR(m, h);
  }
  if (segment) {
    uint16_t size = (uint16_t)row[SEGSZ];
    h->cmsg_level = SOL_UDP;
    h->cmsg_type = UDP_SEGMENT;
    h->cmsg_len = CMSG_LEN(sizeof size);
    memcpy(CMSG_DATA(h), &size, sizeof size);
    used += CMSG_SPACE(sizeof size);
  }
  m->msg_controllen = used;
  if (used == 0) m->msg_control = NULL;
}

/* A train on a path that takes no UDP_SEGMENT: cut here, still one system call. What does not fit the socket is lost, as on
   any full queue. Returns 0 or an errno. */
static int send_pieces(int fd, const struct msghdr *whole, const int32_t *row, bool v6) {
  control tos;
  int32_t plain[ROW];
  memcpy(plain, row, sizeof plain);
  uint8_t *p = whole->msg_iov->iov_base;
  size_t left = whole->msg_iov->iov_len, size = (size_t)row[SEGSZ];
  int n = 0;
  while (left > 0 && n < NKE_SEGMENTS) {
    struct msghdr *m = &piece_msgs[n].msg_hdr;
    memset(m, 0, sizeof *m);
    m->msg_name = whole->msg_name;
    m->msg_namelen = whole->msg_namelen;
    put_control(&tos, m, plain, v6, false);
    piece_iovs[n].iov_base = p;
    piece_iovs[n].iov_len = left < size ? left : size;
    m->msg_iov = &piece_iovs[n];
    m->msg_iovlen = 1;
    p += piece_iovs[n].iov_len;
    left -= piece_iovs[n].iov_len;
    n++;
  }
  int failures = 0;
  for (int done = 0; done < n;) {
    int r = sendmmsg(fd, piece_msgs + done, (unsigned)(n - done), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (r > 0)
      done += r;
    else if (done == 0 || failures++ > 2)
      return errno;
  }
  return 0;
}

static void prepare_send(const io_call *c, bool v6) {
  nke_crc_stream crc = {.n = 0};
  for (int i = 0; i < c->count; i++) {
    int32_t *row = c->rows.p + i * ROW;
    struct msghdr *m = &msgs[i].msg_hdr;
    memset(m, 0, sizeof *m);
    iovs[i].iov_base = c->region.p + row[OFF];
    iovs[i].iov_len = (size_t)row[LEN];
    m->msg_iov = &iovs[i];
    m->msg_iovlen = 1;
    put_address(&addrs[i], m, row, v6);
    put_control(&controls[i], m, row, v6, row[SEGSZ] > 0 && row[SEGSZ] < row[LEN] && !(c->flags & IO_SPLIT));
    row[RESULT] = 0;
    row[PENDING] = 0;
    if (c->flags & IO_CRC) nke_crc_cut(&crc, c->region.p + row[OFF], (uint32_t)row[LEN], (uint32_t)row[SEGSZ], NULL);
  }
  nke_crc_flush(&crc);
}

/*
 * udpSend(fd, region, rows, count, flags: 1 fill CRC32c | 2 IPv6 | 4 cut trains here) -> entries taken, or -errno when the
 * socket itself is unusable. 0..count-1 means the socket is full. An entry that cannot be sent is taken, with its errno as
 * result. A pending ICMP error is reported by the kernel in place of sending, once, so an entry is tried twice.
 */
static napi_value udp_send(napi_env env, napi_callback_info info) {
  io_call c;
  if (!io_args(env, info, &c)) return nke_type_error(env, "udpSend(fd, region, rows, count, flags)");
  bool v6 = (c.flags & IO_V6) != 0;
  for (int i = 0; i < c.count; i++) {
    const int32_t *row = c.rows.p + i * ROW;
    if (!nke_in(&c.region, row[OFF], row[LEN]) || row[SEGSZ] < 0 || row[SEGSZ] > 65535) return nke_i32(env, -EFAULT);
  }
  prepare_send(&c, v6);
  int done = 0, tries = 0;
  while (done < c.count) {
    int32_t *row = c.rows.p + done * ROW;
    bool split = (c.flags & IO_SPLIT) && row[SEGSZ] > 0 && row[SEGSZ] < row[LEN];
    unsigned n = 0; /* up to the next train that must be cut */
    while (!split && done + (int)n < c.count) {
      const int32_t *r = c.rows.p + (done + (int)n) * ROW;
      if ((c.flags & IO_SPLIT) && r[SEGSZ] > 0 && r[SEGSZ] < r[LEN]) break;
      n++;
    }
    int r, e = 0;
    if (split) {
      e = send_pieces(c.fd, &msgs[done].msg_hdr, row, v6);
      r = e ? -1 : 1;
    } else {
      r = sendmmsg(c.fd, msgs + done, n, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (r < 0) e = errno;
    }
    if (r > 0) {
      done += r;
      tries = 0;
      /* Sent a part: the kernel swallowed why it stopped, and that may have been an ICMP error. */
      if (!split && r < (int)n) c.rows.p[PENDING] = 1;
      continue;
    }
    if (e == EAGAIN || e == EWOULDBLOCK) break;
    if (e == EBADF || e == ENOTSOCK || e == EFAULT) return nke_i32(env, done ? done : -e);
    if (e == EIO && row[SEGSZ] > 0) { /* a device without checksum offload takes no UDP_SEGMENT */
      put_control(&controls[done], &msgs[done].msg_hdr, row, v6, false);
      e = send_pieces(c.fd, &msgs[done].msg_hdr, row, v6);
      if (e == EAGAIN) break;
    } else if (tries++ == 0) {
      c.rows.p[PENDING] = 1;
      continue;
    }
    row[RESULT] = e;
    done++;
    tries = 0;
  }
  return nke_i32(env, done);
}

static void take_address(const address *at, int32_t *row, bool v6) {
  if (v6) {
    row[PORT] = ntohs(at->v6.sin6_port);
    for (int w = 0; w < 4; w++) row[W0 + w] = (int32_t)ntohl(at->v6.sin6_addr.s6_addr32[w]);
  } else {
    row[PORT] = ntohs(at->v4.sin_port);
    row[W0] = row[W1] = 0;
    row[W2] = 0xffff;
    row[W3] = (int32_t)ntohl(at->v4.sin_addr.s_addr);
  }
}

static void take_control(struct msghdr *m, int32_t *row) {
  for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
    int value = 0;
    if (h->cmsg_level == SOL_UDP && h->cmsg_type == UDP_GRO) {
      memcpy(&value, CMSG_DATA(h), sizeof value);
      if (value > 0 && value < row[LEN]) row[SEGSZ] = value;
    } else if (h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_TOS) {
      row[TOS] = *(uint8_t *)CMSG_DATA(h);
    } else if (h->cmsg_level == IPPROTO_IPV6 && h->cmsg_type == IPV6_TCLASS) {
      memcpy(&value, CMSG_DATA(h), sizeof value);
      row[TOS] = value & 255;
    }
  }
}

/* udpReceive(fd, region, rows, count, flags: 1 check CRC32c | 2 IPv6) -> entries received (0: nothing there) or -errno */
static napi_value udp_receive(napi_env env, napi_callback_info info) {
  io_call c;
  if (!io_args(env, info, &c)) return nke_type_error(env, "udpReceive(fd, region, rows, count, flags)");
  if (c.count == 0) return nke_i32(env, 0);
  bool v6 = (c.flags & IO_V6) != 0;
  for (int i = 0; i < c.count; i++) {
    const int32_t *row = c.rows.p + i * ROW;
    if (!nke_in(&c.region, row[OFF], row[CAP])) return nke_i32(env, -EFAULT);
    struct msghdr *m = &msgs[i].msg_hdr;
    iovs[i].iov_base = c.region.p + row[OFF];
    iovs[i].iov_len = (size_t)row[CAP];
    m->msg_iov = &iovs[i];
    m->msg_iovlen = 1;
    m->msg_name = &addrs[i];
    m->msg_namelen = sizeof addrs[i];
    m->msg_control = &controls[i];
    m->msg_controllen = sizeof controls[i];
    m->msg_flags = 0;
  }
  int r = -1;
  c.rows.p[PENDING] = 0;
  for (int tries = 0; tries < 8; tries++) {
    r = recvmmsg(c.fd, msgs, (unsigned)c.count, MSG_DONTWAIT, NULL);
    if (r >= 0) break;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return nke_i32(env, 0);
    if (errno == EBADF || errno == ENOTSOCK || errno == EFAULT || errno == ENOMEM) return nke_i32(env, -errno);
    if (errno != EINTR) c.rows.p[PENDING] = 1; /* an ICMP error, now reported and gone */
  }
  if (r < 0) return nke_i32(env, 0);
  nke_crc_stream crc = {.n = 0};
  for (int i = 0; i < r; i++) {
    int32_t *row = c.rows.p + i * ROW;
    row[LEN] = (int32_t)msgs[i].msg_len;
    row[SEGSZ] = 0;
    row[TOS] = 0;
    row[CAP] = 0;
    row[RESULT] = msgs[i].msg_hdr.msg_flags & MSG_TRUNC ? EMSGSIZE : 0;
    take_address(&addrs[i], row, v6);
    take_control(&msgs[i].msg_hdr, row);
    if (c.flags & IO_CRC && row[RESULT] == 0) nke_crc_cut(&crc, c.region.p + row[OFF], (uint32_t)row[LEN], (uint32_t)row[SEGSZ], &row[CAP]);
  }
  nke_crc_flush(&crc);
  return nke_i32(env, r);
}

/*
 * udpErrors(fd, out) -> ICMP errors read from the socket's error queue (ip(7), IP_RECVERR), at most 256. Adds to
 * out[0] unreachable, out[1] too big, out[2] other; out[3] = MTU of the last "too big".
 */
static napi_value udp_errors(napi_env env, napi_callback_info info) {
  napi_value a[2];
  int32_t fd;
  nke_words out;
  if (!nke_args(env, info, 2, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_words(env, a[1], &out) || out.n < 4)
    return nke_type_error(env, "udpErrors(fd, out[4])");
  int n = 0;
  for (; n < 256; n++) {
    char payload[8];
    union {
      struct cmsghdr align;
      char bytes[512];
    } control;
    struct iovec iov = {payload, sizeof payload};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) break;
    int kind = 2;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
      bool v4 = h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_RECVERR;
      bool v6 = h->cmsg_level == IPPROTO_IPV6 && h->cmsg_type == IPV6_RECVERR;
      if (!v4 && !v6) continue;
      struct sock_extended_err e;
      memcpy(&e, CMSG_DATA(h), sizeof e);
      if (e.ee_errno == EMSGSIZE) {
        kind = 1;
        out.p[3] = (int32_t)e.ee_info;
      } else if (e.ee_errno == ECONNREFUSED || e.ee_errno == EHOSTUNREACH || e.ee_errno == ENETUNREACH || e.ee_errno == ENOPROTOOPT) {
        kind = 0;
      }
    }
    out.p[kind]++;
  }
  return nke_i32(env, n);
}

bool nke_udp_init(napi_env env, napi_value exports) {
  return nke_export(env, exports, "udpOpen", udp_open) && nke_export(env, exports, "udpPort", udp_port) && nke_export(env, exports, "udpSteer", udp_steer) &&
         nke_export(env, exports, "udpSend", udp_send) && nke_export(env, exports, "udpReceive", udp_receive) &&
         nke_export(env, exports, "udpErrors", udp_errors);
}
