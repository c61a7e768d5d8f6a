/*
 * kernel-peer: the peer of vm/sctp-peer.h on the kernel's own SCTP, for inside a Linux guest. The options of UDP
 * encapsulation do nothing here: the guest's sysctls net.sctp.udp_port and net.sctp.encap_port say it for all sockets.
 *
 * Build: cc -O2 -I PACKAGE/vm -o kernel-peer kernel-peer.c
 */
#define PROGRAM "kernel-peer"
#define NEEDS_UDP 0
#include "sctp-peer.h"
#include <linux/sctp.h>
#include <sys/uio.h>

static int listener = -1, sock = -1, shut;

static void stack_start(void)
{
}

static void set(int s, int level, int name, const void *value, socklen_t size, const char *what)
{
	if (setsockopt(s, level, name, value, size) < 0)
		fail("setsockopt %s: %s", what, strerror(errno));
}

/** A one-to-one socket bound to the addresses given and to SCTP port `port`, ready to listen or connect. */
static int open_socket(uint16_t port)
{
	struct sctp_initmsg init = { 0 };
	uint8_t packed[PACKED_SIZE];
	int family, on = 1;
	size_t size = pack(opt.address, opt.addresses, port, packed, &family);
	int s = socket(family, SOCK_STREAM, IPPROTO_SCTP);

	if (s < 0)
		fail("socket: %s", strerror(errno));
	/* The kernel counts bookkeeping too and doubles what is asked for, up to its limits (net.core.?mem_max). */
	set(s, SOL_SOCKET, SO_SNDBUF, &opt.sndbuf, sizeof(opt.sndbuf), "SO_SNDBUF");
	set(s, SOL_SOCKET, SO_RCVBUF, &opt.rcvbuf, sizeof(opt.rcvbuf), "SO_RCVBUF");
	if (opt.nodelay || opt.mode == PINGPONG || opt.mode == ECHO)
		set(s, IPPROTO_SCTP, SCTP_NODELAY, &on, sizeof(on), "SCTP_NODELAY");
	set(s, IPPROTO_SCTP, SCTP_RECVRCVINFO, &on, sizeof(on), "SCTP_RECVRCVINFO");
	init.sinit_num_ostreams = (uint16_t)opt.streams;
	init.sinit_max_instreams = 2048;
	set(s, IPPROTO_SCTP, SCTP_INITMSG, &init, sizeof(init), "SCTP_INITMSG");
	set(s, IPPROTO_SCTP, SCTP_SOCKOPT_BINDX_ADD, packed, (socklen_t)size, "bind");
	return s;
}

static void stack_listen(void)
{
	listener = open_socket(opt.port);
	if (listen(listener, 8) < 0)
		fail("listen: %s", strerror(errno));
}

static void stack_accept(void)
{
	sock = accept(listener, NULL, NULL);
	if (sock < 0)
		fail("accept: %s", strerror(errno));
}

static void stack_connect(void)
{
	uint8_t packed[PACKED_SIZE];
	int family;
	size_t size;

	sock = open_socket(opt.local_port);
	size = pack(opt.peer, opt.peers, opt.port, packed, &family);
	set(sock, IPPROTO_SCTP, SCTP_SOCKOPT_CONNECTX, packed, (socklen_t)size, "connect");
}

static ssize_t stack_receive(uint8_t *p, size_t size, int *eor, struct how *how)
{
	char control[256];
	struct iovec piece = { p, size };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(sock, &message, 0);

	/* Once we have shut down, Linux may tell the end of the association so; an abort is ECONNRESET. */
	if (n < 0 && errno == ENOTCONN && shut)
		n = 0;
	if (n < 0)
		fail("receive: %s", strerror(errno));
	*eor = (message.msg_flags & MSG_EOR) != 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		struct sctp_rcvinfo info;
		if (c->cmsg_level != IPPROTO_SCTP || c->cmsg_type != SCTP_RCVINFO)
			continue;
		memcpy(&info, CMSG_DATA(c), sizeof(info));
		how->stream = info.rcv_sid;
		how->ppid = info.rcv_ppid;
		how->unordered = (info.rcv_flags & SCTP_UNORDERED) != 0;
	}
	return n;
}

static void stack_send(const uint8_t *p, size_t n, const struct how *how)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(struct sctp_sndinfo))];
	} control = { 0 };
	struct sctp_sndinfo info = { 0 };
	struct iovec piece = { (void *)p, n };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };

	info.snd_sid = how->stream;
	info.snd_ppid = how->ppid;
	info.snd_flags = how->unordered ? SCTP_UNORDERED : 0;
	control.header.cmsg_level = IPPROTO_SCTP;
	control.header.cmsg_type = SCTP_SNDINFO;
	control.header.cmsg_len = CMSG_LEN(sizeof(info));
	memcpy(CMSG_DATA(&control.header), &info, sizeof(info));
	if (sendmsg(sock, &message, MSG_NOSIGNAL) != (ssize_t)n)
		fail("send: %s", strerror(errno));
}

static void stack_shutdown(void)
{
	if (shutdown(sock, SHUT_WR) < 0)
		fail("shutdown: %s", strerror(errno));
	shut = 1;
}

static void stack_close(void)
{
	close(sock);
}

static void stack_linger_zero(void)
{
	const struct linger zero = { .l_onoff = 1, .l_linger = 0 };

	set(sock, SOL_SOCKET, SO_LINGER, &zero, sizeof(zero), "SO_LINGER");
}

static void stack_exit(void)
{
	exit(0);
}
