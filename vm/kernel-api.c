/*
 * kernel-api: vm/api-peer.h on the kernel's own SCTP, for inside a Linux guest: the calls of RFC 6458 by system calls and the
 * socket options that lksctp's library makes them of.
 *
 * Build: cc -O2 -I PACKAGE/vm -o kernel-api kernel-api.c
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>
#include <linux/sctp.h>
#define SEND_FAILED_DATA ssf_data
#include "api-peer.h"
#include <fcntl.h>

static const struct option_row options[] = { COMMON_OPTIONS, { 0, 0, 0, 0, { { 0, 0, 0, 0 } } } };
static const struct named send_flags[] = {
	{ "unordered", SCTP_UNORDERED }, { "abort", SCTP_ABORT },       { "eof", SCTP_EOF },
	{ "sendall", SCTP_SENDALL },     { "addrover", SCTP_ADDR_OVER }, { "sackimm", SCTP_SACK_IMMEDIATELY },
	{ 0, 0 },
};
static const struct named event_names[] = {
	{ "assoc-change", SCTP_ASSOC_CHANGE },         { "peer-addr-change", SCTP_PEER_ADDR_CHANGE },
	{ "remote-error", SCTP_REMOTE_ERROR },         { "send-failed", SCTP_SEND_FAILED_EVENT },
	{ "shutdown", SCTP_SHUTDOWN_EVENT },           { "partial-delivery", SCTP_PARTIAL_DELIVERY_EVENT },
	{ "sender-dry", SCTP_SENDER_DRY_EVENT },       { "adaptation-indication", SCTP_ADAPTATION_INDICATION },
	{ 0, 0 },
};

static void stack_start(int local_udp, int remote_udp)
{
	(void)local_udp, (void)remote_udp;
	signal(SIGPIPE, SIG_IGN);
}
static int unblocked(int s)
{
	if (s >= 0)
		fcntl(s, F_SETFL, O_NONBLOCK);
	return s;
}
static int stack_socket(int family, int type)
{
	return unblocked(socket(family, type, IPPROTO_SCTP));
}
static int stack_bind(int s, struct sockaddr *sa, socklen_t size)
{
	return bind(s, sa, size);
}
static int stack_bindx(int s, uint8_t *packed, int count, size_t size, int add)
{
	(void)count;
	return setsockopt(s, IPPROTO_SCTP, add ? SCTP_SOCKOPT_BINDX_ADD : SCTP_SOCKOPT_BINDX_REM, packed, (socklen_t)size);
}
static int stack_listen(int s, int backlog)
{
	return listen(s, backlog);
}
static int stack_accept(int s, struct sockaddr *sa, socklen_t *size)
{
	return unblocked(accept(s, sa, size));
}
static int stack_connect(int s, struct sockaddr *sa, socklen_t size)
{
	return connect(s, sa, size);
}
static int stack_connectx(int s, uint8_t *packed, int count, size_t size, uint32_t *assoc)
{
	struct sctp_getaddrs_old param = { .addr_num = (int)size, .addrs = (struct sockaddr *)packed };
	socklen_t param_size = sizeof(param);
	int r;

	/* SCTP_SOCKOPT_CONNECTX3 is a getsockopt: the id comes back although the call is in progress. */
	(void)count;
	r = getsockopt(s, IPPROTO_SCTP, SCTP_SOCKOPT_CONNECTX3, &param, &param_size);
	*assoc = (uint32_t)param.assoc_id;
	return r;
}
static int stack_ready(int s, int write)
{
	struct pollfd p = { .fd = s, .events = write ? POLLOUT : POLLIN };

	return poll(&p, 1, 0) > 0;
}
static ssize_t stack_send(int s, const uint8_t *p, size_t n, struct sockaddr *to, socklen_t size, struct sctp_sndinfo *info)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(struct sctp_sndinfo))];
	} control = { 0 };
	struct iovec piece = { (void *)p, n };
	struct msghdr m = { .msg_name = to, .msg_namelen = to ? size : 0, .msg_iov = &piece, .msg_iovlen = 1 };

	if (info) {
		control.header.cmsg_level = IPPROTO_SCTP;
		control.header.cmsg_type = SCTP_SNDINFO;
		control.header.cmsg_len = CMSG_LEN(sizeof(*info));
		memcpy(CMSG_DATA(&control.header), info, sizeof(*info));
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
	}
	return sendmsg(s, &m, MSG_NOSIGNAL);
}
static ssize_t stack_recv(int s, uint8_t *p, size_t n, struct got *got, int peek)
{
	char control[512];
	struct iovec piece = { p, n };
	struct msghdr m = { .msg_name = &got->from, .msg_namelen = sizeof(got->from), .msg_iov = &piece, .msg_iovlen = 1,
		            .msg_control = control, .msg_controllen = sizeof(control) };
	ssize_t r = recvmsg(s, &m, peek ? MSG_PEEK : 0);

	if (r < 0)
		return r;
	got->from_size = m.msg_namelen;
	got->eor = (m.msg_flags & MSG_EOR) != 0;
	got->notification = (m.msg_flags & MSG_NOTIFICATION) != 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != IPPROTO_SCTP)
			continue;
		if (c->cmsg_type == SCTP_RCVINFO) {
			memcpy(&got->rcv, CMSG_DATA(c), sizeof(got->rcv));
			got->has_rcv = 1;
		} else if (c->cmsg_type == SCTP_NXTINFO) {
			memcpy(&got->nxt, CMSG_DATA(c), sizeof(got->nxt));
			got->has_nxt = 1;
		}
	}
	return r;
}
static int stack_getsockopt(int s, int level, int id, void *value, socklen_t *size)
{
	return getsockopt(s, level, id, value, size);
}
static int stack_setsockopt(int s, int level, int id, const void *value, socklen_t size)
{
	return setsockopt(s, level, id, value, size);
}
static int stack_peeloff(int s, uint32_t assoc)
{
	sctp_peeloff_arg_t param = { .associd = (sctp_assoc_t)assoc };
	socklen_t size = sizeof(param);

	if (getsockopt(s, IPPROTO_SCTP, SCTP_SOCKOPT_PEELOFF, &param, &size) < 0)
		return -1;
	return unblocked(param.sd);
}
static int stack_addrs(int s, uint32_t assoc, int local, uint8_t *out)
{
	static uint8_t room[sizeof(struct sctp_getaddrs) + MAX_ADDRS * sizeof(struct sockaddr_storage)];
	struct sctp_getaddrs *list = (struct sctp_getaddrs *)room;
	socklen_t size = sizeof(room);

	memset(room, 0, sizeof(room));
	list->assoc_id = (sctp_assoc_t)assoc;
	if (getsockopt(s, IPPROTO_SCTP, local ? SCTP_GET_LOCAL_ADDRS : SCTP_GET_PEER_ADDRS, room, &size) < 0)
		return -1;
	memcpy(out, list->addrs, MAX_ADDRS * sizeof(struct sockaddr_storage) - sizeof(*list));
	return (int)list->addr_num;
}
static int stack_shutdown(int s, int how)
{
	return shutdown(s, how);
}
static int stack_close(int s)
{
	return close(s);
}
