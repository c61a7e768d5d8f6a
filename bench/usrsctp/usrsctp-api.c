/*
 * usrsctp-api: vm/api-peer.h on usrsctp, FreeBSD's stack in user space (Debian's libusrsctp), over UDP encapsulation.
 *
 * Build: cc -O2 -I PACKAGE/vm -o usrsctp-api usrsctp-api.c -lusrsctp -lpthread
 */
#define _GNU_SOURCE
#define STACK_USRSCTP
#include <sys/types.h>
#include <usrsctp.h>
#define SEND_FAILED_DATA ssfe_data
#include "api-peer.h"

static const struct option_row options[] = {
	COMMON_OPTIONS,
	INT_OPTION("EXPLICIT_EOR", SCTP_EXPLICIT_EOR),
	{ 0, 0, 0, 0, { { 0, 0, 0, 0 } } },
};
static const struct named send_flags[] = {
	{ "unordered", SCTP_UNORDERED }, { "abort", SCTP_ABORT },       { "eof", SCTP_EOF },
	{ "sendall", SCTP_SENDALL },     { "addrover", SCTP_ADDR_OVER }, { "sackimm", SCTP_SACK_IMMEDIATELY },
	{ "eor", SCTP_EOR },             { 0, 0 },
};
static const struct named event_names[] = {
	{ "assoc-change", SCTP_ASSOC_CHANGE },         { "peer-addr-change", SCTP_PEER_ADDR_CHANGE },
	{ "remote-error", SCTP_REMOTE_ERROR },         { "send-failed", SCTP_SEND_FAILED_EVENT },
	{ "shutdown", SCTP_SHUTDOWN_EVENT },           { "partial-delivery", SCTP_PARTIAL_DELIVERY_EVENT },
	{ "sender-dry", SCTP_SENDER_DRY_EVENT },       { "adaptation-indication", SCTP_ADAPTATION_INDICATION },
	{ 0, 0 },
};
static int remote_port;

static void stack_start(int local_udp, int remote_udp)
{
	usrsctp_init((uint16_t)local_udp, NULL, NULL);
	usrsctp_sysctl_set_sctp_no_csum_on_loopback(0);
	usrsctp_sysctl_set_sctp_blackhole(0);
	remote_port = remote_udp;
}
static struct socket *unblocked(struct socket *s)
{
	if (s)
		usrsctp_set_non_blocking(s, 1);
	return s;
}
static struct socket *stack_socket(int family, int type)
{
	struct sctp_udpencaps encaps;
	struct socket *s = usrsctp_socket(family, type, IPPROTO_SCTP, NULL, NULL, 0, NULL);

	if (s && remote_port) {
		memset(&encaps, 0, sizeof(encaps));
		encaps.sue_address.ss_family = (sa_family_t)family;
		encaps.sue_port = htons((uint16_t)remote_port);
		usrsctp_setsockopt(s, IPPROTO_SCTP, SCTP_REMOTE_UDP_ENCAPS_PORT, &encaps, sizeof(encaps));
	}
	return unblocked(s);
}
static int stack_bind(struct socket *s, struct sockaddr *sa, socklen_t size)
{
	return usrsctp_bind(s, sa, size);
}
static int stack_bindx(struct socket *s, uint8_t *packed, int count, size_t size, int add)
{
	(void)size;
	return usrsctp_bindx(s, (struct sockaddr *)packed, count, add ? SCTP_BINDX_ADD_ADDR : SCTP_BINDX_REM_ADDR);
}
static int stack_listen(struct socket *s, int backlog)
{
	return usrsctp_listen(s, backlog);
}
static struct socket *stack_accept(struct socket *s, struct sockaddr *sa, socklen_t *size)
{
	return unblocked(usrsctp_accept(s, sa, size));
}
static int stack_connect(struct socket *s, struct sockaddr *sa, socklen_t size)
{
	return usrsctp_connect(s, sa, size);
}
static int stack_connectx(struct socket *s, uint8_t *packed, int count, size_t size, uint32_t *assoc)
{
	sctp_assoc_t id = 0;
	int r = usrsctp_connectx(s, (struct sockaddr *)packed, count, &id);

	(void)size;
	*assoc = id;
	return r;
}
static int stack_ready(struct socket *s, int write)
{
	int events = usrsctp_get_events(s);

	return (events & ((write ? SCTP_EVENT_WRITE : SCTP_EVENT_READ) | SCTP_EVENT_ERROR)) != 0;
}
static ssize_t stack_send(struct socket *s, const uint8_t *p, size_t n, struct sockaddr *to, socklen_t size, struct sctp_sndinfo *info)
{
	(void)size;
	return usrsctp_sendv(s, p, n, to, to ? 1 : 0, info, info ? sizeof(*info) : 0, info ? SCTP_SENDV_SNDINFO : SCTP_SENDV_NOINFO, 0);
}
static ssize_t stack_recv(struct socket *s, uint8_t *p, size_t n, struct got *got, int peek)
{
	struct sctp_recvv_rn info;
	socklen_t info_size = sizeof(info);
	unsigned int type = 0;
	int flags = peek ? MSG_PEEK : 0;
	ssize_t r;

	memset(&info, 0, sizeof(info));
	got->from_size = sizeof(got->from);
	r = usrsctp_recvv(s, p, n, (struct sockaddr *)&got->from, &got->from_size, &info, &info_size, &type, &flags);
	if (r < 0)
		return r;
	got->eor = (flags & MSG_EOR) != 0;
	got->notification = (flags & MSG_NOTIFICATION) != 0;
	if (type == SCTP_RECVV_RCVINFO || type == SCTP_RECVV_RN) {
		got->rcv = info.recvv_rcvinfo;
		got->has_rcv = 1;
	}
	if (type == SCTP_RECVV_RN) {
		got->nxt = info.recvv_nxtinfo;
		got->has_nxt = 1;
	} else if (type == SCTP_RECVV_NXTINFO) {
		memcpy(&got->nxt, &info, sizeof(got->nxt));
		got->has_nxt = 1;
	}
	return r;
}
static int stack_getsockopt(struct socket *s, int level, int id, void *value, socklen_t *size)
{
	return usrsctp_getsockopt(s, level, id, value, size);
}
static int stack_setsockopt(struct socket *s, int level, int id, const void *value, socklen_t size)
{
	return usrsctp_setsockopt(s, level, id, value, size);
}
static struct socket *stack_peeloff(struct socket *s, uint32_t assoc)
{
	return unblocked(usrsctp_peeloff(s, assoc));
}
static int stack_addrs(struct socket *s, uint32_t assoc, int local, uint8_t *out)
{
	struct sockaddr *list = NULL;
	int count = local ? usrsctp_getladdrs(s, assoc, &list) : usrsctp_getpaddrs(s, assoc, &list);
	size_t at = 0;

	if (count > MAX_ADDRS)
		count = MAX_ADDRS;
	for (int i = 0; i < count; i++) {
		sa_family_t family = ((struct sockaddr *)((uint8_t *)list + at))->sa_family;
		at += family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	}
	if (count > 0) {
		memcpy(out, list, at);
		if (local)
			usrsctp_freeladdrs(list);
		else
			usrsctp_freepaddrs(list);
	}
	return count;
}
static int stack_shutdown(struct socket *s, int how)
{
	return usrsctp_shutdown(s, how);
}
static int stack_close(struct socket *s)
{
	usrsctp_close(s);
	return 0;
}
