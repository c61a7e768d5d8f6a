/*
 * usrsctp-peer: the fast, quiet SCTP peer of the tests and benchmarks: FreeBSD's stack in user space (Debian's
 * libusrsctp) over UDP encapsulation (RFC 6951). What it does is in vm/sctp-peer.h; here is the stack below it.
 *
 * Build: cc -O2 -I PACKAGE/vm -o usrsctp-peer usrsctp-peer.c -lusrsctp -lpthread
 */
#define PROGRAM "usrsctp-peer"
#define NEEDS_UDP 1
#include "sctp-peer.h"
#include <usrsctp.h>

static struct socket *listener, *sock;

static void stack_start(void)
{
	usrsctp_init(opt.local_udp, NULL, NULL);
	/* usrsctp leaves the checksum out on loopback unless told otherwise; accepted sockets inherit its buffers. */
	usrsctp_sysctl_set_sctp_no_csum_on_loopback(opt.crc ? 0 : 1);
	usrsctp_sysctl_set_sctp_sendspace((uint32_t)opt.sndbuf);
	usrsctp_sysctl_set_sctp_recvspace((uint32_t)opt.rcvbuf);
	usrsctp_sysctl_set_sctp_blackhole(0);
}

static void set(struct socket *s, int level, int name, const void *value, socklen_t size, const char *what)
{
	if (usrsctp_setsockopt(s, level, name, value, size) < 0)
		fail("setsockopt %s: %s", what, strerror(errno));
}

/** A one-to-one socket bound to the addresses given and to SCTP port `port`, ready to listen or connect. */
static struct socket *open_socket(uint16_t port)
{
	struct sctp_udpencaps encaps;
	struct sctp_initmsg init;
	struct sctp_paddrparams path;
	uint8_t packed[PACKED_SIZE];
	int family, on = 1;
	struct socket *s;

	pack(opt.address, opt.addresses, port, packed, &family);
	s = usrsctp_socket(family, SOCK_STREAM, IPPROTO_SCTP, NULL, NULL, 0, NULL);
	if (!s)
		fail("socket: %s", strerror(errno));
	set(s, SOL_SOCKET, SO_SNDBUF, &opt.sndbuf, sizeof(opt.sndbuf), "SO_SNDBUF");
	set(s, SOL_SOCKET, SO_RCVBUF, &opt.rcvbuf, sizeof(opt.rcvbuf), "SO_RCVBUF");
	if (opt.nodelay || opt.mode == PINGPONG || opt.mode == ECHO)
		set(s, IPPROTO_SCTP, SCTP_NODELAY, &on, sizeof(on), "SCTP_NODELAY");
	set(s, IPPROTO_SCTP, SCTP_RECVRCVINFO, &on, sizeof(on), "SCTP_RECVRCVINFO");
	memset(&init, 0, sizeof(init));
	init.sinit_num_ostreams = (uint16_t)opt.streams;
	init.sinit_max_instreams = 2048;
	set(s, IPPROTO_SCTP, SCTP_INITMSG, &init, sizeof(init), "SCTP_INITMSG");
	if (opt.remote_udp) {
		memset(&encaps, 0, sizeof(encaps));
		encaps.sue_address.ss_family = (sa_family_t)family;
		encaps.sue_port = htons(opt.remote_udp);
		set(s, IPPROTO_SCTP, SCTP_REMOTE_UDP_ENCAPS_PORT, &encaps, sizeof(encaps), "SCTP_REMOTE_UDP_ENCAPS_PORT");
	}
	if (opt.mtu) {
		memset(&path, 0, sizeof(path));
		path.spp_address.ss_family = (sa_family_t)family;
		path.spp_flags = SPP_PMTUD_DISABLE;
		path.spp_pathmtu = (uint32_t)opt.mtu;
		set(s, IPPROTO_SCTP, SCTP_PEER_ADDR_PARAMS, &path, sizeof(path), "SCTP_PEER_ADDR_PARAMS");
	}
	if (usrsctp_bindx(s, (struct sockaddr *)packed, opt.addresses, SCTP_BINDX_ADD_ADDR) < 0)
		fail("bind: %s", strerror(errno));
	return s;
}

static void stack_listen(void)
{
	listener = open_socket(opt.port);
	if (usrsctp_listen(listener, 8) < 0)
		fail("listen: %s", strerror(errno));
}

static void stack_accept(void)
{
	sock = usrsctp_accept(listener, NULL, NULL);
	if (!sock)
		fail("accept: %s", strerror(errno));
}

static void stack_connect(void)
{
	uint8_t packed[PACKED_SIZE];
	int family;

	sock = open_socket(opt.local_port);
	pack(opt.peer, opt.peers, opt.port, packed, &family);
	if (usrsctp_connectx(sock, (struct sockaddr *)packed, opt.peers, NULL) < 0)
		fail("connect: %s", strerror(errno));
}

static ssize_t stack_receive(uint8_t *p, size_t size, int *eor, struct how *how)
{
	struct sctp_rcvinfo info = { 0 };
	struct sockaddr_storage from;
	socklen_t from_size = sizeof(from), info_size = sizeof(info);
	unsigned int info_type = 0;
	int flags = 0;
	ssize_t n;

	n = usrsctp_recvv(sock, p, size, (struct sockaddr *)&from, &from_size, &info, &info_size, &info_type, &flags);
	if (n < 0)
		fail("receive: %s", strerror(errno));
	*eor = (flags & MSG_EOR) != 0;
	how->stream = info.rcv_sid;
	how->ppid = info.rcv_ppid;
	how->unordered = (info.rcv_flags & SCTP_UNORDERED) != 0;
	return n;
}

static void stack_send(const uint8_t *p, size_t n, const struct how *how)
{
	struct sctp_sndinfo info = { 0 };

	info.snd_sid = how->stream;
	info.snd_ppid = how->ppid;
	info.snd_flags = how->unordered ? SCTP_UNORDERED : 0;
	if (usrsctp_sendv(sock, p, n, NULL, 0, &info, sizeof(info), SCTP_SENDV_SNDINFO, 0) != (ssize_t)n)
		fail("send: %s", strerror(errno));
}

static void stack_shutdown(void)
{
	if (usrsctp_shutdown(sock, SHUT_WR) < 0)
		fail("shutdown: %s", strerror(errno));
}

static void stack_close(void)
{
	usrsctp_close(sock);
}

static void stack_linger_zero(void)
{
	const struct linger zero = { .l_onoff = 1, .l_linger = 0 };

	set(sock, SOL_SOCKET, SO_LINGER, &zero, sizeof(zero), "SO_LINGER");
}

static void stack_exit(void)
{
	if (listener)
		usrsctp_close(listener);
	/* The last SHUTDOWN COMPLETE must leave before the process does; what is left is the kernel's to tidy. */
	for (int i = 0; i < 50 && usrsctp_finish() != 0; i++)
		usleep(10000);
	_exit(0);
}
