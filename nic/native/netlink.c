/*
 * A netlink socket of the routing family (netlink(7), rtnetlink(7)): opened in a network namespace, bytes out, bytes in.
 * What the messages say is rtnetlink.ts's business.
 */
#include "nke.h"

#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECEIVE_BUFFER (256 << 10)

static int open_netlink(uint32_t groups) {
  struct sockaddr_nl at = {.nl_family = AF_NETLINK, .nl_groups = groups};
  int size = RECEIVE_BUFFER, on = 1;
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return -errno;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on); /* a dump of one interface; older kernels: of all */
  if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0) {
    int e = errno;
    close(fd);
    return -e;
  }
  return fd;
}

/* netlinkOpen(groups, netns path?) -> fd or -errno; groups is the bit mask of rtnetlink(7)'s RTMGRP_* */
static napi_value netlink_open(napi_env env, napi_callback_info info) {
  napi_value a[2];
  char ns[256];
  int32_t groups;
  int saved;
  if (!nke_args(env, info, 2, a) || !nke_get_i32(env, a[0], &groups) || !nke_get_text(env, a[1], ns, sizeof ns))
    return nke_type_error(env, "netlinkOpen(groups, netns?)");
  int r = nke_ns_enter(ns, &saved);
  if (r == 0) {
    r = open_netlink((uint32_t)groups);
    nke_ns_leave(saved);
  }
  return nke_i32(env, r);
}

/* netlinkSend(fd, bytes, length) -> 0 or -errno: one datagram to the kernel. */
static napi_value netlink_send(napi_env env, napi_callback_info info) {
  napi_value a[3];
  int32_t fd, n;
  nke_bytes b;
  struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
  if (!nke_args(env, info, 3, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_bytes(env, a[1], &b) || !nke_get_i32(env, a[2], &n) || !nke_in(&b, 0, n))
    return nke_type_error(env, "netlinkSend(fd, bytes, length)");
  ssize_t r;
  do r = sendto(fd, b.p, (size_t)n, 0, (struct sockaddr *)&kernel, sizeof kernel);
  while (r < 0 && errno == EINTR);
  return nke_i32(env, r < 0 ? -errno : 0);
}

/*
 * netlinkReceive(fd, bytes) -> length of the next datagram, which is longer than `bytes` when it was cut; 0 for one that did
 * not come from the kernel; -errno (-EAGAIN: none there, -ENOBUFS: some were lost).
 */
static napi_value netlink_receive(napi_env env, napi_callback_info info) {
  napi_value a[2];
  int32_t fd;
  nke_bytes b;
  if (!nke_args(env, info, 2, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_bytes(env, a[1], &b)) return nke_type_error(env, "netlinkReceive(fd, bytes)");
  struct sockaddr_nl from = {0};
  socklen_t size = sizeof from;
  ssize_t r;
  do r = recvfrom(fd, b.p, b.n, MSG_DONTWAIT | MSG_TRUNC, (struct sockaddr *)&from, &size);
  while (r < 0 && errno == EINTR);
  if (r < 0) return nke_i32(env, -errno);
  return nke_i32(env, from.nl_pid == 0 ? (int32_t)r : 0);
}

typedef struct {
  int fd, result;
  char name[IFNAMSIZ];
  napi_ref callback;
  napi_async_work work;
} carrier_check;

static void check_carrier(napi_env env, void *data) {
  (void)env;
  carrier_check *c = data;
  struct ethtool_value value = {.cmd = ETHTOOL_GLINK};
  struct ifreq r = {0};
  memcpy(r.ifr_name, c->name, sizeof c->name);
  r.ifr_data = (void *)&value;
  c->result = ioctl(c->fd, SIOCETHTOOL, &r) == 0 ? value.data != 0 : -errno;
}

static void carrier_checked(napi_env env, napi_status status, void *data) {
  carrier_check *c = data;
  napi_value fn, self, argument;
  if (status == napi_ok && napi_get_reference_value(env, c->callback, &fn) == napi_ok && napi_get_global(env, &self) == napi_ok &&
      napi_create_int32(env, c->result, &argument) == napi_ok)
    napi_call_function(env, self, fn, 1, &argument, NULL);
  napi_delete_reference(env, c->callback);
  napi_delete_async_work(env, c->work);
  free(c);
}

/*
 * linkCarrier(fd of any socket, name, callback(1 when the interface is up and has a carrier now, else 0, or -errno)) -> 0 or -errno.
 * ETHTOOL_GLINK, in a thread of the pool: it waits for the lock that all changes of interfaces take, however long these last.
 * The announcements of rtnetlink may be up to a second older: linkwatch lets them out in batches.
 */
static napi_value link_carrier(napi_env env, napi_callback_info info) {
  napi_value a[3], what;
  napi_valuetype type;
  carrier_check *c = calloc(1, sizeof *c);
  if (!c) return nke_i32(env, -ENOMEM);
  if (!nke_args(env, info, 3, a) || !nke_get_i32(env, a[0], &c->fd) || !nke_get_text(env, a[1], c->name, sizeof c->name) ||
      napi_typeof(env, a[2], &type) != napi_ok || type != napi_function) {
    free(c);
    return nke_type_error(env, "linkCarrier(fd, name, callback)");
  }
  napi_create_reference(env, a[2], 1, &c->callback);
  napi_create_string_utf8(env, "nke.carrier", NAPI_AUTO_LENGTH, &what);
  if (napi_create_async_work(env, NULL, what, check_carrier, carrier_checked, c, &c->work) == napi_ok) {
    if (napi_queue_async_work(env, c->work) == napi_ok) return nke_i32(env, 0);
    napi_delete_async_work(env, c->work);
  }
  napi_delete_reference(env, c->callback);
  free(c);
  return nke_i32(env, -EAGAIN);
}

bool nke_netlink_init(napi_env env, napi_value exports) {
  return nke_export(env, exports, "netlinkOpen", netlink_open) && nke_export(env, exports, "netlinkSend", netlink_send) &&
         nke_export(env, exports, "netlinkReceive", netlink_receive) && nke_export(env, exports, "linkCarrier", link_carrier);
}
