/*
 * api-peer: the socket API of RFC 6458 of another SCTP stack, one call at a time, for tests that make the same calls on ours
 * (interop/api.*). bench/usrsctp/usrsctp-api.c puts usrsctp below it, vm/kernel-api.c the kernel's SCTP.
 *
 * Standard input has a call per line, "name key=value ...", standard output a line of JSON for each: "r" is what the call
 * gave, "errno" the name of its error when that is negative, and what else came of it. Sockets are small numbers, all of
 * them non-blocking; "wait" is the milliseconds that a call may wait for its socket. With --control ADDRESS:PORT the
 * lines come by the one TCP connection that is accepted there. The end of the input ends the program, and so does a
 * line that is not understood (exit status 2), or --timeout (3).
 *
 *   socket style=one|many family=4|6          bind s addr port           bindx s how=add|rem port addrs=A,B
 *   listen s backlog                          accept s wait              connect s addr port
 *   connectx s addrs port                     wait s for=read|write wait shutdown s how
 *   send s len [seed addr port sid ppid flags=unordered,eof context assoc plain]
 *   recv s [wait len peek]                    peeloff s assoc            close s
 *   getpaddrs s assoc                         getladdrs s assoc          event s assoc type on
 *   set s opt NAME=...                        get s opt NAME=...         sleep wait
 *
 * The payload of a message is what fill() makes of its length and seed; "sum" of what comes is FNV-1a of its bytes.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_SOCKETS 256
#define MAX_ARGS 32
#define MAX_LINE 2048
#define MAX_ADDRS 16
#define MAX_MESSAGE (1 << 20)
#define MAX_WAIT 20000

/* ---- what the stack below gives: every call as errno has it, -1 and errno ------------------------------- */

#ifdef STACK_USRSCTP
typedef struct socket *sock_t;
#define NO_SOCKET NULL
#else
typedef int sock_t;
#define NO_SOCKET (-1)
#endif

struct got {
	struct sctp_rcvinfo rcv;
	struct sctp_nxtinfo nxt;
	int has_rcv, has_nxt, eor, notification, trunc;
	struct sockaddr_storage from;
	socklen_t from_size;
};
struct named {
	const char *name;
	uint32_t value;
};
/** How a member of an option's struct goes in and out: an unsigned integer of its size, or an address. */
struct field {
	const char *name;
	uint16_t at, size;
	char kind; /* 'u', 'i', 'a' */
};
struct option_row {
	const char *name;
	int level, id;
	uint16_t size;
	struct field field[12];
};

static void stack_start(int local_udp, int remote_udp);
static sock_t stack_socket(int family, int type);
static int stack_bind(sock_t s, struct sockaddr *sa, socklen_t size);
static int stack_bindx(sock_t s, uint8_t *packed, int count, size_t size, int add);
static int stack_listen(sock_t s, int backlog);
static sock_t stack_accept(sock_t s, struct sockaddr *sa, socklen_t *size);
static int stack_connect(sock_t s, struct sockaddr *sa, socklen_t size);
static int stack_connectx(sock_t s, uint8_t *packed, int count, size_t size, uint32_t *assoc);
static int stack_ready(sock_t s, int write);
static ssize_t stack_send(sock_t s, const uint8_t *p, size_t n, struct sockaddr *to, socklen_t size, struct sctp_sndinfo *info);
static ssize_t stack_recv(sock_t s, uint8_t *p, size_t n, struct got *got, int peek);
static int stack_getsockopt(sock_t s, int level, int id, void *value, socklen_t *size);
static int stack_setsockopt(sock_t s, int level, int id, const void *value, socklen_t size);
static sock_t stack_peeloff(sock_t s, uint32_t assoc);
/** Packs the addresses to out (room for MAX_ADDRS of the largest); returns how many. */
static int stack_addrs(sock_t s, uint32_t assoc, int local, uint8_t *out);
static int stack_shutdown(sock_t s, int how);
static int stack_close(sock_t s);

#define UINT(name, type, member) { name, offsetof(type, member), sizeof(((type *)0)->member), 'u' }
#define SINT(name, type, member) { name, offsetof(type, member), sizeof(((type *)0)->member), 'i' }
#define ADDR(name, type, member) { name, offsetof(type, member), sizeof(((type *)0)->member), 'a' }
#define INT_OPTION(NAME, id) { NAME, IPPROTO_SCTP, id, sizeof(int), { { "value", 0, sizeof(int), 'i' } } }
#define VALUE_OPTION(NAME, id) \
	{ NAME, IPPROTO_SCTP, id, sizeof(struct sctp_assoc_value), \
	  { UINT("assoc", struct sctp_assoc_value, assoc_id), UINT("value", struct sctp_assoc_value, assoc_value) } }

/** The options that RFC 6458 names and both stacks have in its form. */
#define COMMON_OPTIONS \
	{ "LINGER", SOL_SOCKET, SO_LINGER, sizeof(struct linger), \
	  { SINT("onoff", struct linger, l_onoff), SINT("linger", struct linger, l_linger) } }, \
	{ "SNDBUF", SOL_SOCKET, SO_SNDBUF, sizeof(int), { { "value", 0, sizeof(int), 'i' } } }, \
	{ "RCVBUF", SOL_SOCKET, SO_RCVBUF, sizeof(int), { { "value", 0, sizeof(int), 'i' } } }, \
	{ "RTOINFO", IPPROTO_SCTP, SCTP_RTOINFO, sizeof(struct sctp_rtoinfo), \
	  { UINT("assoc", struct sctp_rtoinfo, srto_assoc_id), UINT("initial", struct sctp_rtoinfo, srto_initial), \
	    UINT("max", struct sctp_rtoinfo, srto_max), UINT("min", struct sctp_rtoinfo, srto_min) } }, \
	{ "ASSOCINFO", IPPROTO_SCTP, SCTP_ASSOCINFO, sizeof(struct sctp_assocparams), \
	  { UINT("assoc", struct sctp_assocparams, sasoc_assoc_id), UINT("maxrxt", struct sctp_assocparams, sasoc_asocmaxrxt), \
	    UINT("destinations", struct sctp_assocparams, sasoc_number_peer_destinations), \
	    UINT("peerrwnd", struct sctp_assocparams, sasoc_peer_rwnd), UINT("localrwnd", struct sctp_assocparams, sasoc_local_rwnd), \
	    UINT("cookielife", struct sctp_assocparams, sasoc_cookie_life) } }, \
	{ "INITMSG", IPPROTO_SCTP, SCTP_INITMSG, sizeof(struct sctp_initmsg), \
	  { UINT("ostreams", struct sctp_initmsg, sinit_num_ostreams), UINT("instreams", struct sctp_initmsg, sinit_max_instreams), \
	    UINT("attempts", struct sctp_initmsg, sinit_max_attempts), UINT("timeo", struct sctp_initmsg, sinit_max_init_timeo) } }, \
	INT_OPTION("NODELAY", SCTP_NODELAY), INT_OPTION("AUTOCLOSE", SCTP_AUTOCLOSE), \
	INT_OPTION("DISABLE_FRAGMENTS", SCTP_DISABLE_FRAGMENTS), INT_OPTION("FRAGMENT_INTERLEAVE", SCTP_FRAGMENT_INTERLEAVE), \
	INT_OPTION("PARTIAL_DELIVERY_POINT", SCTP_PARTIAL_DELIVERY_POINT), INT_OPTION("MAPPED_V4", SCTP_I_WANT_MAPPED_V4_ADDR), \
	INT_OPTION("RECVRCVINFO", SCTP_RECVRCVINFO), INT_OPTION("RECVNXTINFO", SCTP_RECVNXTINFO), \
	INT_OPTION("REUSE_PORT", SCTP_REUSE_PORT), INT_OPTION("ASSOC_NUMBER", SCTP_GET_ASSOC_NUMBER), \
	VALUE_OPTION("MAXSEG", SCTP_MAXSEG), VALUE_OPTION("MAX_BURST", SCTP_MAX_BURST), VALUE_OPTION("CONTEXT", SCTP_CONTEXT), \
	{ "DELAYED_SACK", IPPROTO_SCTP, SCTP_DELAYED_SACK, sizeof(struct sctp_sack_info), \
	  { UINT("assoc", struct sctp_sack_info, sack_assoc_id), UINT("delay", struct sctp_sack_info, sack_delay), \
	    UINT("freq", struct sctp_sack_info, sack_freq) } }, \
	{ "PRIMARY_ADDR", IPPROTO_SCTP, SCTP_PRIMARY_ADDR, sizeof(struct sctp_setprim), \
	  { UINT("assoc", struct sctp_setprim, ssp_assoc_id), ADDR("addr", struct sctp_setprim, ssp_addr) } }, \
	{ "PEER_ADDR_PARAMS", IPPROTO_SCTP, SCTP_PEER_ADDR_PARAMS, sizeof(struct sctp_paddrparams), \
	  { UINT("assoc", struct sctp_paddrparams, spp_assoc_id), ADDR("addr", struct sctp_paddrparams, spp_address), \
	    UINT("hbinterval", struct sctp_paddrparams, spp_hbinterval), UINT("pathmaxrxt", struct sctp_paddrparams, spp_pathmaxrxt), \
	    UINT("pathmtu", struct sctp_paddrparams, spp_pathmtu), UINT("flags", struct sctp_paddrparams, spp_flags) } }, \
	{ "DEFAULT_SNDINFO", IPPROTO_SCTP, SCTP_DEFAULT_SNDINFO, sizeof(struct sctp_sndinfo), \
	  { UINT("sid", struct sctp_sndinfo, snd_sid), UINT("flags", struct sctp_sndinfo, snd_flags), \
	    { "ppid", offsetof(struct sctp_sndinfo, snd_ppid), 4, 'n' }, UINT("context", struct sctp_sndinfo, snd_context), \
	    UINT("assoc", struct sctp_sndinfo, snd_assoc_id) } }, \
	{ "STATUS", IPPROTO_SCTP, SCTP_STATUS, sizeof(struct sctp_status), \
	  { UINT("assoc", struct sctp_status, sstat_assoc_id), UINT("state", struct sctp_status, sstat_state), \
	    UINT("rwnd", struct sctp_status, sstat_rwnd), UINT("unack", struct sctp_status, sstat_unackdata), \
	    UINT("pend", struct sctp_status, sstat_penddata), UINT("instreams", struct sctp_status, sstat_instrms), \
	    UINT("outstreams", struct sctp_status, sstat_outstrms), UINT("fragpoint", struct sctp_status, sstat_fragmentation_point), \
	    ADDR("primary", struct sctp_status, sstat_primary.spinfo_address) } }, \
	{ "PEER_ADDR_INFO", IPPROTO_SCTP, SCTP_GET_PEER_ADDR_INFO, sizeof(struct sctp_paddrinfo), \
	  { UINT("assoc", struct sctp_paddrinfo, spinfo_assoc_id), ADDR("addr", struct sctp_paddrinfo, spinfo_address), \
	    UINT("cwnd", struct sctp_paddrinfo, spinfo_cwnd), UINT("srtt", struct sctp_paddrinfo, spinfo_srtt), \
	    UINT("rto", struct sctp_paddrinfo, spinfo_rto), UINT("mtu", struct sctp_paddrinfo, spinfo_mtu) } }, \
	{ "EVENT", IPPROTO_SCTP, SCTP_EVENT, sizeof(struct sctp_event), \
	  { UINT("assoc", struct sctp_event, se_assoc_id), UINT("type", struct sctp_event, se_type), UINT("on", struct sctp_event, se_on) } }

static const struct option_row options[];
static const struct named send_flags[];
static const struct named event_names[];

/* ---- a line ---------------------------------------------------------------------------------------------- */

static struct {
	const char *name;
	const char *key[MAX_ARGS], *value[MAX_ARGS];
	int n;
} line;
static sock_t sockets[MAX_SOCKETS];
static int sockets_used;
static uint8_t data[MAX_MESSAGE];

static void __attribute__((noreturn)) usage(const char *why, const char *what)
{
	printf("{\"usage\":\"%s %s\"}\n", why, what);
	fflush(stdout);
	_exit(2);
}

static void parse_line(char *text)
{
	char *save = NULL, *word = strtok_r(text, " \n", &save);

	line.n = 0;
	if (!word)
		usage("empty", "line");
	line.name = word;
	while ((word = strtok_r(NULL, " \n", &save))) {
		char *equals = strchr(word, '=');
		if (!equals || line.n == MAX_ARGS)
			usage("no key=value, or too many:", word);
		*equals = 0;
		line.key[line.n] = word;
		line.value[line.n++] = equals + 1;
	}
}

static const char *arg(const char *key)
{
	for (int i = 0; i < line.n; i++)
		if (!strcmp(line.key[i], key))
			return line.value[i];
	return NULL;
}

static int64_t number_of(const char *text)
{
	char *end;
	long long n;

	errno = 0;
	n = strtoll(text, &end, 10);
	if (errno || !*text || *end)
		usage("not a number:", text);
	return n;
}

static int64_t number(const char *key, int64_t low, int64_t high, int64_t otherwise)
{
	const char *text = arg(key);
	int64_t n = text ? number_of(text) : otherwise;

	if (n < low || n > high)
		usage("missing or out of range:", key);
	return n;
}
#define NEEDED INT64_MIN

static sock_t socket_arg(int *index)
{
	int i = (int)number("s", 0, sockets_used - 1, NEEDED);

	if (index)
		*index = i;
	if (sockets[i] == NO_SOCKET)
		usage("closed:", "s");
	return sockets[i];
}

static uint32_t lookup(const struct named *list, const char *name, size_t n)
{
	for (; list->name; list++)
		if (strlen(list->name) == n && !strncmp(list->name, name, n))
			return list->value;
	usage("unknown name:", name);
}

/** Names with commas between them, or numbers. */
static uint32_t flags_arg(const char *key, const struct named *list)
{
	const char *p = arg(key);
	uint32_t flags = 0;

	while (p && *p) {
		size_t n = strcspn(p, ",");
		flags |= lookup(list, p, n);
		p += n + (p[n] == ',');
	}
	return flags;
}

static socklen_t one_address(const char *text, uint16_t port, void *out)
{
	struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

	if (inet_pton(AF_INET, text, &in4.sin_addr) == 1) {
		memcpy(out, &in4, sizeof(in4));
		return sizeof(in4);
	}
	if (inet_pton(AF_INET6, text, &in6.sin6_addr) == 1) {
		memcpy(out, &in6, sizeof(in6));
		return sizeof(in6);
	}
	usage("neither IPv4 nor IPv6:", text);
}

/** addr or addrs, with the port (each may have its own as A/PORT); returns how many, *size the bytes packed. */
static int addresses_arg(uint8_t *out, size_t *size)
{
	const char *text = arg("addrs") ? arg("addrs") : arg("addr");
	uint16_t port = (uint16_t)number("port", 0, 65535, 0);
	char one[128], *slash;
	int count = 0;

	*size = 0;
	while (text && *text) {
		size_t n = strcspn(text, ",");
		uint16_t p = port;
		if (n >= sizeof(one) || count == MAX_ADDRS)
			usage("too many addresses:", text);
		memcpy(one, text, n);
		one[n] = 0;
		if ((slash = strchr(one, '/'))) {
			*slash = 0;
			p = (uint16_t)number_of(slash + 1);
		}
		*size += one_address(one, p, out + *size);
		count++;
		text += n + (text[n] == ',');
	}
	return count;
}

/* ---- what is printed ------------------------------------------------------------------------------------- */

static void put_result(int64_t r)
{
	int e = errno;

	printf("{\"r\":%" PRId64, r);
	if (r < 0) {
		const char *name = strerrorname_np(e);
		printf(",\"errno\":\"%s\"", name ? name : "?");
	}
}

static void put_address(const char *key, const void *at)
{
	char text[INET6_ADDRSTRLEN] = "";
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;
	sa_family_t family;
	unsigned port = 0;

	memcpy(&family, (const uint8_t *)at + offsetof(struct sockaddr, sa_family), sizeof(family));
	if (family == AF_INET) {
		memcpy(&in4, at, sizeof(in4));
		inet_ntop(AF_INET, &in4.sin_addr, text, sizeof(text));
		port = ntohs(in4.sin_port);
	} else if (family == AF_INET6) {
		memcpy(&in6, at, sizeof(in6));
		inet_ntop(AF_INET6, &in6.sin6_addr, text, sizeof(text));
		port = ntohs(in6.sin6_port);
	}
	if (key)
		printf("\"%s\":", key);
	printf("\"%s/%u\"", text, port);
}

static void put_flags(const char *key, uint32_t flags)
{
	const char *comma = "";

	printf(",\"%s\":[", key);
	for (const struct named *f = send_flags; f->name; f++)
		if (flags & f->value) {
			printf("%s\"%s\"", comma, f->name);
			comma = ",";
		}
	printf("]");
}

static void fill(uint8_t *p, size_t n, uint32_t seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(seed * 31 + i * 7 + (i >> 8));
}

static uint32_t fnv(const uint8_t *p, size_t n)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 16777619u;
	return h;
}

static void put_notification(const uint8_t *p, size_t n)
{
	union sctp_notification note;
	uint16_t type;
	const char *name = "?";

	memset(&note, 0, sizeof(note));
	memcpy(&note, p, n < sizeof(note) ? n : sizeof(note));
	memcpy(&type, p, sizeof(type));
	for (const struct named *e = event_names; e->name; e++)
		if (e->value == type)
			name = e->name;
	printf(",\"note\":{\"type\":\"%s\"", name);
	if (type == SCTP_ASSOC_CHANGE) {
		static const struct named states[] = {
			{ "comm-up", SCTP_COMM_UP }, { "comm-lost", SCTP_COMM_LOST }, { "restart", SCTP_RESTART },
			{ "shutdown-comp", SCTP_SHUTDOWN_COMP }, { "cant-start", SCTP_CANT_STR_ASSOC }, { 0, 0 },
		};
		for (const struct named *s = states; s->name; s++)
			if (s->value == note.sn_assoc_change.sac_state)
				printf(",\"state\":\"%s\"", s->name);
		printf(",\"out\":%u,\"in\":%u,\"assoc\":%u,\"error\":%u", note.sn_assoc_change.sac_outbound_streams,
		       note.sn_assoc_change.sac_inbound_streams, (unsigned)note.sn_assoc_change.sac_assoc_id,
		       note.sn_assoc_change.sac_error);
	} else if (type == SCTP_PEER_ADDR_CHANGE) {
		static const struct named states[] = {
			{ "available", SCTP_ADDR_AVAILABLE }, { "unreachable", SCTP_ADDR_UNREACHABLE }, { "removed", SCTP_ADDR_REMOVED },
			{ "added", SCTP_ADDR_ADDED }, { "made-prim", SCTP_ADDR_MADE_PRIM }, { "confirmed", SCTP_ADDR_CONFIRMED }, { 0, 0 },
		};
		for (const struct named *s = states; s->name; s++)
			if (s->value == (uint32_t)note.sn_paddr_change.spc_state)
				printf(",\"state\":\"%s\"", s->name);
		printf(",\"assoc\":%u,", (unsigned)note.sn_paddr_change.spc_assoc_id);
		put_address("addr", &note.sn_paddr_change.spc_aaddr);
	} else if (type == SCTP_SHUTDOWN_EVENT)
		printf(",\"assoc\":%u", (unsigned)note.sn_shutdown_event.sse_assoc_id);
	else if (type == SCTP_SENDER_DRY_EVENT)
		printf(",\"assoc\":%u", (unsigned)note.sn_sender_dry_event.sender_dry_assoc_id);
	else if (type == SCTP_SEND_FAILED_EVENT) {
		const struct sctp_sndinfo *info = &note.sn_send_failed_event.ssfe_info;
		printf(",\"sid\":%u,\"ppid\":%u,\"context\":%u,\"length\":%u", info->snd_sid, ntohl(info->snd_ppid), info->snd_context,
		       (unsigned)(n - offsetof(struct sctp_send_failed_event, SEND_FAILED_DATA)));
	} else if (type == SCTP_PARTIAL_DELIVERY_EVENT)
		printf(",\"indication\":%u,\"assoc\":%u", note.sn_pdapi_event.pdapi_indication, (unsigned)note.sn_pdapi_event.pdapi_assoc_id);
	printf("}");
}

/* ---- the calls ------------------------------------------------------------------------------------------- */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/** Waits up to the line's "wait" until the socket is ready; 1 when it is. */
static int wait_for(sock_t s, int write)
{
	double until = now() + (double)number("wait", 0, MAX_WAIT, 0);

	while (!stack_ready(s, write)) {
		if (now() >= until)
			return 0;
		usleep(1000);
	}
	return 1;
}

static int add_socket(sock_t s)
{
	int e = errno;

	if (s == NO_SOCKET) {
		errno = e;
		return -1;
	}
	for (int i = 0; i < sockets_used; i++)
		if (sockets[i] == NO_SOCKET) {
			sockets[i] = s;
			return i;
		}
	if (sockets_used == MAX_SOCKETS)
		usage("too many", "sockets");
	sockets[sockets_used] = s;
	return sockets_used++;
}

static void do_socket(void)
{
	const char *style = arg("style");
	int type = style && !strcmp(style, "many") ? SOCK_SEQPACKET : SOCK_STREAM;

	put_result(add_socket(stack_socket(number("family", 4, 6, 4) == 6 ? AF_INET6 : AF_INET, type)));
}

static void do_addresses(void)
{
	uint8_t packed[MAX_ADDRS * sizeof(struct sockaddr_in6)];
	size_t size;
	uint32_t assoc = 0;
	sock_t s = socket_arg(NULL);
	int count = addresses_arg(packed, &size);

	if (!strcmp(line.name, "bind"))
		put_result(stack_bind(s, (struct sockaddr *)packed, (socklen_t)size));
	else if (!strcmp(line.name, "connect"))
		put_result(stack_connect(s, (struct sockaddr *)packed, (socklen_t)size));
	else if (!strcmp(line.name, "bindx"))
		put_result(stack_bindx(s, packed, count, size, !strcmp(arg("how") ? arg("how") : "", "add")));
	else {
		put_result(stack_connectx(s, packed, count, size, &assoc));
		printf(",\"assoc\":%u", assoc);
	}
}

static void do_accept(void)
{
	struct sockaddr_storage from;
	socklen_t size = sizeof(from);
	sock_t s = socket_arg(NULL);
	int r;

	wait_for(s, 0);
	memset(&from, 0, sizeof(from));
	r = add_socket(stack_accept(s, (struct sockaddr *)&from, &size));
	put_result(r);
	if (r >= 0) {
		printf(",");
		put_address("from", &from);
	}
}

static void do_send(void)
{
	uint8_t packed[MAX_ADDRS * sizeof(struct sockaddr_in6)];
	size_t size, n = (size_t)number("len", 0, MAX_MESSAGE, 0);
	struct sctp_sndinfo info;
	sock_t s = socket_arg(NULL);
	int count = addresses_arg(packed, &size);

	if (count > 1)
		usage("one address for", "send");
	memset(&info, 0, sizeof(info));
	info.snd_sid = (uint16_t)number("sid", 0, 65535, 0);
	info.snd_ppid = htonl((uint32_t)number("ppid", 0, UINT32_MAX, 0));
	info.snd_flags = (uint16_t)flags_arg("flags", send_flags);
	info.snd_context = (uint32_t)number("context", 0, UINT32_MAX, 0);
	info.snd_assoc_id = (sctp_assoc_t)number("assoc", 0, INT32_MAX, 0);
	fill(data, n, (uint32_t)number("seed", 0, UINT32_MAX, 0));
	wait_for(s, 1);
	put_result(stack_send(s, data, n, count ? (struct sockaddr *)packed : NULL, (socklen_t)size, arg("plain") ? NULL : &info));
}

static void do_recv(void)
{
	struct got got;
	ssize_t n;
	size_t room = (size_t)number("len", 1, MAX_MESSAGE, MAX_MESSAGE);
	sock_t s = socket_arg(NULL);

	memset(&got, 0, sizeof(got));
	wait_for(s, 0);
	n = stack_recv(s, data, room, &got, arg("peek") != NULL);
	put_result(n);
	if (n < 0)
		return;
	printf(",\"eor\":%s", got.eor ? "true" : "false");
	if (got.notification) {
		put_notification(data, (size_t)n);
		return;
	}
	printf(",\"sum\":%u,", fnv(data, (size_t)n));
	if (got.from_size)
		put_address("from", &got.from);
	else
		printf("\"from\":\"\"");
	if (got.has_rcv) {
		printf(",\"rcv\":{\"sid\":%u,\"ssn\":%u,\"ppid\":%u,\"tsn\":%u,\"context\":%u,\"assoc\":%u", got.rcv.rcv_sid, got.rcv.rcv_ssn,
		       ntohl(got.rcv.rcv_ppid), got.rcv.rcv_tsn, got.rcv.rcv_context, (unsigned)got.rcv.rcv_assoc_id);
		put_flags("flags", got.rcv.rcv_flags);
		printf("}");
	}
	if (got.has_nxt) {
		printf(",\"next\":{\"sid\":%u,\"ppid\":%u,\"length\":%u,\"assoc\":%u", got.nxt.nxt_sid, ntohl(got.nxt.nxt_ppid),
		       got.nxt.nxt_length, (unsigned)got.nxt.nxt_assoc_id);
		put_flags("flags", got.nxt.nxt_flags);
		printf("}");
	}
}

static const struct option_row *find_option(void)
{
	const char *name = arg("opt");

	for (const struct option_row *o = options; o->name; o++)
		if (name && !strcmp(o->name, name))
			return o;
	usage("unknown option:", name ? name : "");
}

/** The option's struct from the line's values; members that are not given are 0. */
static void option_in(const struct option_row *o, uint8_t *out)
{
	memset(out, 0, o->size);
	for (const struct field *f = o->field; f->name; f++) {
		const char *text = arg(f->name);
		uint64_t v;
		if (!text)
			continue;
		if (f->kind == 'a') {
			char one[128], *slash;
			snprintf(one, sizeof(one), "%s", text);
			if (!(slash = strchr(one, '/')))
				usage("not ADDRESS/PORT:", text);
			*slash = 0;
			one_address(one, (uint16_t)number_of(slash + 1), out + f->at);
			continue;
		}
		if (!strcmp(o->name, "EVENT") && !strcmp(f->name, "type"))
			v = lookup(event_names, text, strlen(text));
		else
			v = (uint64_t)number_of(text);
		if (f->kind == 'n')
			v = htonl((uint32_t)v);
		memcpy(out + f->at, &v, f->size); /* little-endian, as every machine this runs on */
	}
}

static void do_option(int set)
{
	const struct option_row *o = find_option();
	uint8_t value[512] = { 0 };
	socklen_t size = o->size;
	sock_t s = socket_arg(NULL);
	int r;

	option_in(o, value);
	if (set) {
		put_result(stack_setsockopt(s, o->level, o->id, value, size));
		return;
	}
	r = stack_getsockopt(s, o->level, o->id, value, &size);
	put_result(r);
	if (r < 0)
		return;
	for (const struct field *f = o->field; f->name; f++) {
		uint64_t v = 0;
		printf(",");
		if (f->kind == 'a') {
			put_address(f->name, value + f->at);
			continue;
		}
		memcpy(&v, value + f->at, f->size);
		if (f->kind == 'n')
			v = ntohl((uint32_t)v);
		if (f->kind == 'i' && f->size == 4)
			printf("\"%s\":%d", f->name, (int)(uint32_t)v);
		else
			printf("\"%s\":%" PRIu64, f->name, v);
	}
}

static void do_event(void)
{
	static const struct option_row *row;
	uint8_t value[64];

	for (row = options; strcmp(row->name, "EVENT"); row++)
		;
	option_in(row, value);
	put_result(stack_setsockopt(socket_arg(NULL), row->level, row->id, value, row->size));
}

static void do_addrs(int local)
{
	uint8_t packed[MAX_ADDRS * sizeof(struct sockaddr_storage)];
	size_t at = 0;
	int count = stack_addrs(socket_arg(NULL), (uint32_t)number("assoc", 0, INT32_MAX, 0), local, packed);

	put_result(count);
	if (count < 0)
		return;
	printf(",\"list\":[");
	for (int i = 0; i < count; i++) {
		sa_family_t family;
		memcpy(&family, packed + at + offsetof(struct sockaddr, sa_family), sizeof(family));
		if (i)
			printf(",");
		put_address(NULL, packed + at);
		at += family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	}
	printf("]");
}

static void run_line(void)
{
	const char *n = line.name;
	int index;

	errno = 0;
	if (!strcmp(n, "socket")) do_socket();
	else if (!strcmp(n, "bind") || !strcmp(n, "bindx") || !strcmp(n, "connect") || !strcmp(n, "connectx")) do_addresses();
	else if (!strcmp(n, "listen")) put_result(stack_listen(socket_arg(NULL), (int)number("backlog", 0, 128, 1)));
	else if (!strcmp(n, "accept")) do_accept();
	else if (!strcmp(n, "wait")) put_result(wait_for(socket_arg(NULL), !strcmp(arg("for") ? arg("for") : "", "write")));
	else if (!strcmp(n, "send")) do_send();
	else if (!strcmp(n, "recv")) do_recv();
	else if (!strcmp(n, "event")) do_event();
	else if (!strcmp(n, "set")) do_option(1);
	else if (!strcmp(n, "get")) do_option(0);
	else if (!strcmp(n, "peeloff")) put_result(add_socket(stack_peeloff(socket_arg(NULL), (uint32_t)number("assoc", 0, INT32_MAX, 0))));
	else if (!strcmp(n, "getpaddrs")) do_addrs(0);
	else if (!strcmp(n, "getladdrs")) do_addrs(1);
	else if (!strcmp(n, "shutdown")) put_result(stack_shutdown(socket_arg(NULL), (int)number("how", 0, 9, SHUT_WR)));
	else if (!strcmp(n, "sleep")) { usleep((useconds_t)number("wait", 0, MAX_WAIT, 0) * 1000); put_result(0); }
	else if (!strcmp(n, "close")) {
		sock_t s = socket_arg(&index);
		sockets[index] = NO_SOCKET;
		put_result(stack_close(s));
	} else
		usage("unknown call:", n);
	printf("}\n");
}

/** Takes the one TCP connection to ADDRESS:PORT as standard input and output. */
static void take_control(char *where)
{
	char *colon = strrchr(where, ':');
	struct sockaddr_storage at;
	socklen_t size;
	int on = 1, l, c;

	if (!colon)
		usage("not ADDRESS:PORT:", where);
	*colon = 0;
	memset(&at, 0, sizeof(at));
	size = one_address(where, (uint16_t)number_of(colon + 1), &at);
	l = socket(((struct sockaddr *)&at)->sa_family, SOCK_STREAM, 0);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (l < 0 || bind(l, (struct sockaddr *)&at, size) < 0 || listen(l, 1) < 0)
		usage("cannot listen:", strerror(errno));
	printf("{\"ready\":true}\n");
	fflush(stdout);
	if ((c = accept(l, NULL, NULL)) < 0)
		usage("accept:", strerror(errno));
	close(l);
	setsockopt(c, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof(on));
	dup2(c, STDIN_FILENO);
	dup2(c, STDOUT_FILENO);
}

static void on_timeout(int signal)
{
	(void)signal;
	_exit(3);
}

int main(int argc, char **argv)
{
	static char text[MAX_LINE];
	int local_udp = 0, remote_udp = 0, timeout = 120;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--local-udp")) local_udp = (int)number_of(argv[i + 1]);
		else if (!strcmp(argv[i], "--remote-udp")) remote_udp = (int)number_of(argv[i + 1]);
		else if (!strcmp(argv[i], "--timeout")) timeout = (int)number_of(argv[i + 1]);
		else if (!strcmp(argv[i], "--control")) take_control(argv[i + 1]);
		else usage("unknown argument:", argv[i]);
	}
	if (timeout < 1 || timeout > 3600)
		usage("out of range:", "--timeout");
	signal(SIGALRM, on_timeout);
	signal(SIGPIPE, SIG_IGN);
	alarm((unsigned)timeout);
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	stack_start(local_udp, remote_udp);
	while (fgets(text, sizeof(text), stdin)) {
		if (!strchr(text, '\n'))
			usage("too long a", "line");
		parse_line(text);
		run_line();
		fflush(stdout);
	}
	_exit(0);
}
