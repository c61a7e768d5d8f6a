/*
 * The peer program of tests and benchmarks, less its SCTP stack: options, payload, counting, hashing, one line of JSON on
 * standard output. bench/usrsctp/usrsctp-peer.c puts usrsctp below it, vm/kernel-peer.c the kernel's SCTP.
 *
 *   sink     receive until the other end shuts down; count and hash
 *   source   connect, send N bytes or T seconds of messages, shut down; count and hash
 *   echo     receive and send back what came, message for message (stream, PPID and order kept)
 *   pingpong connect, send one message, wait for its echo, again; round-trip times
 *
 * With --abort on, sink and source end by ABORT (RFC 9260 section 9.1) once they have had what --bytes, --count or
 * --seconds say.
 *
 * A server prints {"ready":true} before it accepts, and serves one association at a time. Whatever happens the program
 * ends by itself after --timeout. Exit status: 0 it held, 1 protocol or socket trouble, 2 usage, 3 timeout; 1 and 3
 * print {"error":...}.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* ---- what the stack below gives ---------------------------------------------------------------------- */

/** How a message travels: stream, payload protocol identifier (network order), ordered or not. */
struct how {
	uint16_t stream;
	uint32_t ppid;
	int unordered;
};

static void stack_start(void);
/** Binds and listens. */
static void stack_listen(void);
/** Takes the next association of the listener. */
static void stack_accept(void);
/** Binds and connects; returns when the association is up. */
static void stack_connect(void);
/** Receives into p; returns the bytes, 0 at the end of the association. *eor: a message ended. Fails by fail(). */
static ssize_t stack_receive(uint8_t *p, size_t size, int *eor, struct how *how);
/** Sends one message whole. Fails by fail(). */
static void stack_send(const uint8_t *p, size_t n, const struct how *how);
/** Starts the graceful end (RFC 9260 section 9.2); receive then gives 0 when it is done. */
static void stack_shutdown(void);
/** Closes the association. */
static void stack_close(void);
/** SO_LINGER of zero: the close that follows sends ABORT (RFC 6458 section 8.1.4). */
static void stack_linger_zero(void);
/** Ends the program: nothing of it may hang. */
static void __attribute__((noreturn)) stack_exit(void);

/* ---- SHA-256, FIPS 180-4 section 6.2 ---------------------------------------------------------------- */

struct sha256 {
	uint32_t h[8];
	uint64_t bytes;
	uint8_t block[64];
};

static const uint32_t K[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

#define ROR(x, n) (((x) >> (n)) | ((x) << (32 - (n))))

static void sha256_init(struct sha256 *s)
{
	static const uint32_t initial[8] = {
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
	};
	memcpy(s->h, initial, sizeof(initial));
	s->bytes = 0;
}

static void sha256_block(struct sha256 *s, const uint8_t *p)
{
	uint32_t w[64], v[8];

	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
	for (int i = 16; i < 64; i++) {
		uint32_t s0 = ROR(w[i - 15], 7) ^ ROR(w[i - 15], 18) ^ (w[i - 15] >> 3);
		uint32_t s1 = ROR(w[i - 2], 17) ^ ROR(w[i - 2], 19) ^ (w[i - 2] >> 10);
		w[i] = w[i - 16] + s0 + w[i - 7] + s1;
	}
	memcpy(v, s->h, sizeof(v));
	for (int i = 0; i < 64; i++) {
		uint32_t s1 = ROR(v[4], 6) ^ ROR(v[4], 11) ^ ROR(v[4], 25);
		uint32_t t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + K[i] + w[i];
		uint32_t s0 = ROR(v[0], 2) ^ ROR(v[0], 13) ^ ROR(v[0], 22);
		uint32_t t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
		memmove(v + 1, v, 7 * sizeof(v[0]));
		v[4] += t1;
		v[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++)
		s->h[i] += v[i];
}

static void sha256_update(struct sha256 *s, const uint8_t *p, size_t n)
{
	size_t have = s->bytes & 63;

	s->bytes += n;
	if (have) {
		size_t take = 64 - have < n ? 64 - have : n;
		memcpy(s->block + have, p, take);
		p += take;
		n -= take;
		if (have + take < 64)
			return;
		sha256_block(s, s->block);
	}
	for (; n >= 64; p += 64, n -= 64)
		sha256_block(s, p);
	memcpy(s->block, p, n);
}

static void sha256_hex(struct sha256 *s, char out[65])
{
	uint64_t bits = s->bytes * 8;
	size_t have = s->bytes & 63;

	s->block[have++] = 0x80;
	if (have > 56) {
		memset(s->block + have, 0, 64 - have);
		sha256_block(s, s->block);
		have = 0;
	}
	memset(s->block + have, 0, 56 - have);
	for (int i = 0; i < 8; i++)
		s->block[56 + i] = (uint8_t)(bits >> (56 - 8 * i));
	sha256_block(s, s->block);
	for (int i = 0; i < 8; i++)
		snprintf(out + 8 * i, 9, "%08x", s->h[i]);
}

/* ---- options ---------------------------------------------------------------------------------------- */

#define MAX_ADDRESSES 8
#define MAX_MESSAGE (1 << 20)

enum mode { SINK, SOURCE, ECHO, PINGPONG };

static const char *const mode_names[] = { "sink", "source", "echo", "pingpong" };

static struct {
	enum mode mode;
	uint16_t local_udp, remote_udp; /* UDP encapsulation ports; remote 0 at a server: learnt from the packets */
	uint16_t port;                  /* SCTP port: of the server, at both ends */
	uint16_t local_port;            /* SCTP port of a client, 0 = any */
	int addresses, peers;
	const char *address[MAX_ADDRESSES]; /* bound to */
	const char *peer[MAX_ADDRESSES];    /* connected to */
	size_t message;
	uint64_t bytes; /* 0 = by time or by count */
	uint64_t count; /* messages or round trips; 0 = by bytes or time */
	double seconds;
	int sndbuf, rcvbuf, streams, mtu, unordered, hash, crc, nodelay, timeout, abort;
	int associations; /* a server ends after so many */
} opt = {
	.local_udp = 9899,
	.port = 5001,
	.message = 1400,
	/*
	 * Nearly usrsctp's own. Tried from 64 KiB to 4 MiB: no choice was faster beyond the noise (0.45 to 0.8 Gb/s on two
	 * cores), but a receive buffer above the 208 KiB of its UDP socket, which cannot be changed from here, loses packets.
	 */
	.sndbuf = 1 << 18,
	.rcvbuf = 1 << 17,
	.streams = 1,
	.hash = 1,
	.crc = 1,
	.nodelay = 0,
	.timeout = 60,
	.associations = 1,
};

/** Says why in one JSON line and ends at once: a stack's threads need no farewell. */
static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...)
{
	va_list args;

	printf("{\"mode\":\"%s\",\"error\":\"", mode_names[opt.mode]);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\"}\n");
	fflush(stdout);
	_exit(1);
}

/** SIGALRM: only what a signal handler may do. */
static void on_timeout(int signal)
{
	static const char line[] = "{\"error\":\"timeout\"}\n";

	(void)signal;
	if (write(STDOUT_FILENO, line, sizeof(line) - 1) < 0)
		_exit(4);
	_exit(3);
}

static void __attribute__((noreturn)) usage(const char *why)
{
	fprintf(stderr,
	        PROGRAM ": %s\n"
	        "usage: " PROGRAM " sink|source|echo|pingpong [options]\n"
	        "  --local-udp PORT   UDP port of this end (9899)      --remote-udp PORT  UDP port of the other end\n"
	        "  --port PORT        SCTP port of the server (5001)   --local-port PORT  SCTP port of a client (any)\n"
	        "  --address A        bind to A (repeatable; 127.0.0.1) --peer A          connect to A (repeatable; 127.0.0.1)\n"
	        "  --message BYTES    message length (1400)            --streams N        spread messages over N streams (1)\n"
	        "  --bytes N | --count N | --seconds T                 how much a client sends\n"
	        "  --sndbuf B --rcvbuf B  socket buffers (256, 128 KiB) --mtu B            fix the path MTU, no discovery\n"
	        "  --hash on|off      SHA-256 of the payload (on)      --crc on|off       CRC32c also on loopback (on)\n"
	        "  --nodelay on|off   Nagle off (off)                  --unordered on|off unordered messages (off)\n"
	        "  --associations N   a server ends after N (1)        --timeout S        give up after S seconds (60)\n"
	        "  --abort on|off     sink, source: end by ABORT after --bytes, --count or --seconds (off)\n",
	        why);
	exit(2);
}

static long long number(const char *name, const char *text, long long low, long long high)
{
	char *end, why[128];
	long long n;

	errno = 0;
	n = strtoll(text, &end, 10);
	if (errno || *text == 0 || *end || n < low || n > high) {
		snprintf(why, sizeof(why), "--%s wants a number from %lld to %lld", name, low, high);
		usage(why);
	}
	return n;
}

static int on_off(const char *name, const char *text)
{
	char why[64];

	if (!strcmp(text, "on"))
		return 1;
	if (!strcmp(text, "off"))
		return 0;
	snprintf(why, sizeof(why), "--%s wants on or off", name);
	usage(why);
}

static const struct option long_options[] = {
	{ "local-udp", 1, 0, 'l' },  { "remote-udp", 1, 0, 'r' }, { "port", 1, 0, 'p' },      { "local-port", 1, 0, 'P' },
	{ "address", 1, 0, 'a' },    { "peer", 1, 0, 'A' },       { "message", 1, 0, 'm' },   { "streams", 1, 0, 'S' },
	{ "bytes", 1, 0, 'b' },      { "count", 1, 0, 'c' },      { "seconds", 1, 0, 's' },   { "sndbuf", 1, 0, 'x' },
	{ "rcvbuf", 1, 0, 'X' },     { "mtu", 1, 0, 'M' },        { "hash", 1, 0, 'h' },      { "crc", 1, 0, 'C' },
	{ "nodelay", 1, 0, 'n' },    { "unordered", 1, 0, 'u' },  { "associations", 1, 0, 'N' }, { "timeout", 1, 0, 't' },
	{ "abort", 1, 0, 'z' },
	{ 0, 0, 0, 0 },
};

static void parse(int argc, char **argv)
{
	int c, found = 0, index;
	char *end;

	if (argc < 2)
		usage("a mode is missing");
	for (int i = 0; i < 4; i++)
		if (!strcmp(argv[1], mode_names[i]))
			opt.mode = (enum mode)i, found = 1;
	if (!found)
		usage("unknown mode");
	argc--, argv++;
	while ((c = getopt_long(argc, argv, "", long_options, &index)) != -1) {
		const char *name = c == '?' ? "" : long_options[index].name;
		switch (c) {
		case 'l': opt.local_udp = (uint16_t)number(name, optarg, 1, 65535); break;
		case 'r': opt.remote_udp = (uint16_t)number(name, optarg, 1, 65535); break;
		case 'p': opt.port = (uint16_t)number(name, optarg, 1, 65535); break;
		case 'P': opt.local_port = (uint16_t)number(name, optarg, 0, 65535); break;
		case 'a':
			if (opt.addresses == MAX_ADDRESSES) usage("too many --address");
			opt.address[opt.addresses++] = optarg;
			break;
		case 'A':
			if (opt.peers == MAX_ADDRESSES) usage("too many --peer");
			opt.peer[opt.peers++] = optarg;
			break;
		case 'm': opt.message = (size_t)number(name, optarg, 1, MAX_MESSAGE); break;
		case 'S': opt.streams = (int)number(name, optarg, 1, 2048); break;
		case 'b': opt.bytes = (uint64_t)number(name, optarg, 1, INT64_MAX); break;
		case 'c': opt.count = (uint64_t)number(name, optarg, 1, INT64_MAX); break;
		case 's':
			opt.seconds = strtod(optarg, &end);
			if (*end || !(opt.seconds > 0 && opt.seconds <= 3600)) usage("--seconds wants a number up to 3600");
			break;
		case 'x': opt.sndbuf = (int)number(name, optarg, 4096, 1 << 30); break;
		case 'X': opt.rcvbuf = (int)number(name, optarg, 4096, 1 << 30); break;
		case 'M': opt.mtu = (int)number(name, optarg, 512, 65535); break;
		case 'h': opt.hash = on_off(name, optarg); break;
		case 'C': opt.crc = on_off(name, optarg); break;
		case 'n': opt.nodelay = on_off(name, optarg); break;
		case 'u': opt.unordered = on_off(name, optarg); break;
		case 'N': opt.associations = (int)number(name, optarg, 1, 1 << 20); break;
		case 'z': opt.abort = on_off(name, optarg); break;
		case 't': opt.timeout = (int)number(name, optarg, 1, 3600); break;
		default: usage("unknown option");
		}
	}
	if (optind < argc)
		usage("one mode only, and options");
	if (!opt.addresses)
		opt.address[opt.addresses++] = "127.0.0.1";
	if (!opt.peers)
		opt.peer[opt.peers++] = "127.0.0.1";
	if (opt.mode == SOURCE || opt.mode == PINGPONG) {
		if (NEEDS_UDP && !opt.remote_udp)
			usage("a client needs --remote-udp");
		if (!opt.bytes && !opt.count && opt.seconds == 0)
			usage("a client needs --bytes, --count or --seconds");
	}
}

/* ---- addresses and time ------------------------------------------------------------------------------ */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/** Writes text's address with the port to out, packed as bindx and connectx want it; returns its length. */
static size_t to_sockaddr(const char *text, uint16_t port, void *out)
{
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;

	memset(&in4, 0, sizeof(in4));
	memset(&in6, 0, sizeof(in6));
	if (inet_pton(AF_INET, text, &in4.sin_addr) == 1) {
		in4.sin_family = AF_INET;
		in4.sin_port = htons(port);
		memcpy(out, &in4, sizeof(in4));
		return sizeof(in4);
	}
	if (inet_pton(AF_INET6, text, &in6.sin6_addr) == 1) {
		in6.sin6_family = AF_INET6;
		in6.sin6_port = htons(port);
		memcpy(out, &in6, sizeof(in6));
		return sizeof(in6);
	}
	usage("an address is neither IPv4 nor IPv6");
}

/** Packs all addresses with the port to out; returns their bytes. *family: AF_INET6 if one of them is IPv6. */
static size_t pack(const char *const *address, int count, uint16_t port, uint8_t *out, int *family)
{
	size_t at = 0;

	*family = AF_INET;
	for (int i = 0; i < count; i++) {
		if (strchr(address[i], ':'))
			*family = AF_INET6;
		at += to_sockaddr(address[i], port, out + at);
	}
	return at;
}

#define PACKED_SIZE (MAX_ADDRESSES * sizeof(struct sockaddr_in6))

/* ---- payload ---------------------------------------------------------------------------------------- */

/*
 * The payload: byte number i of the whole stream of messages is table[i mod 65521], the table being the low bytes of
 * xorshift32 started at 1. 65521 is prime, so no two messages near each other are alike. The table stands twice (and a
 * message more) so that any message is one contiguous piece of it.
 */
#define PERIOD 65521

static uint8_t pattern[PERIOD + MAX_MESSAGE];

static void fill_pattern(void)
{
	uint32_t x = 1;

	for (size_t i = 0; i < PERIOD; i++) {
		x ^= x << 13, x ^= x >> 17, x ^= x << 5;
		pattern[i] = (uint8_t)x;
	}
	for (size_t i = PERIOD; i < sizeof(pattern); i++)
		pattern[i] = pattern[i - PERIOD];
}

struct tally {
	uint64_t bytes, messages;
	double first, last;
	struct sha256 hash;
};

static void tally_bytes(struct tally *t, const uint8_t *p, size_t n)
{
	t->bytes += n;
	if (opt.hash)
		sha256_update(&t->hash, p, n);
}

static void report(struct tally *t, const char *more)
{
	char hex[65] = "";
	double seconds = t->last - t->first;

	if (opt.hash)
		sha256_hex(&t->hash, hex);
	printf("{\"mode\":\"%s\",\"bytes\":%" PRIu64 ",\"messages\":%" PRIu64 ",\"seconds\":%.6f,\"gbps\":%.6f,\"sha256\":",
	       mode_names[opt.mode], t->bytes, t->messages, seconds, seconds > 0 ? (double)t->bytes * 8e-9 / seconds : 0.0);
	printf(opt.hash ? "\"%s\"" : "null%s", hex);
	printf("%s}\n", more);
	fflush(stdout);
}

static uint8_t buffer[MAX_MESSAGE];

/* ---- modes ------------------------------------------------------------------------------------------ */

/** Whether a client has sent, or a sink that is to abort has received, enough. */
static int enough(const struct tally *t)
{
	if (opt.bytes && t->bytes >= opt.bytes)
		return 1;
	if (opt.count && t->messages >= opt.count)
		return 1;
	/* The clock is looked at every 64 messages. */
	return opt.seconds > 0 && (t->messages & 63) == 0 && now() - t->first >= opt.seconds;
}

static void sink(void)
{
	struct tally t = { 0 };
	struct how how;
	int eor;
	ssize_t n;

	sha256_init(&t.hash);
	t.first = now(); /* of an association that carries nothing */
	while ((n = stack_receive(buffer, sizeof(buffer), &eor, &how)) > 0) {
		if (t.bytes == 0)
			t.first = now();
		tally_bytes(&t, buffer, (size_t)n);
		t.messages += (uint64_t)eor;
		if (opt.abort && enough(&t)) {
			stack_linger_zero();
			break;
		}
	}
	t.last = now();
	report(&t, "");
}

static void echo(void)
{
	struct tally t = { 0 };
	struct how how;
	size_t have = 0;
	int eor;
	ssize_t n;

	sha256_init(&t.hash);
	t.first = now();
	while ((n = stack_receive(buffer + have, sizeof(buffer) - have, &eor, &how)) > 0) {
		tally_bytes(&t, buffer + have, (size_t)n);
		have += (size_t)n;
		if (!eor && have < sizeof(buffer))
			continue;
		if (!eor)
			fail("a message is longer than %d bytes", MAX_MESSAGE);
		stack_send(buffer, have, &how);
		t.messages++;
		have = 0;
	}
	t.last = now();
	report(&t, "");
}

static void source(void)
{
	struct tally t = { 0 };
	struct how how = { .unordered = opt.unordered }, came;
	char more[64];
	int eor;
	double queued;

	sha256_init(&t.hash);
	t.first = now();
	while (!enough(&t)) {
		const uint8_t *p = pattern + t.bytes % PERIOD;
		size_t n = opt.message;
		if (opt.bytes && opt.bytes - t.bytes < n)
			n = (size_t)(opt.bytes - t.bytes);
		how.stream = (uint16_t)(t.messages % (uint64_t)opt.streams);
		stack_send(p, n, &how);
		tally_bytes(&t, p, n);
		t.messages++;
	}
	queued = now() - t.first;
	/* The association is done when all is acknowledged and SHUTDOWN COMPLETE has passed (RFC 9260 section 9.2). */
	if (opt.abort) {
		stack_linger_zero();
	} else {
		stack_shutdown();
		while (stack_receive(buffer, sizeof(buffer), &eor, &came) > 0)
			;
	}
	t.last = now();
	snprintf(more, sizeof(more), ",\"queued\":%.6f", queued);
	report(&t, more);
}

static int by_value(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

#define MAX_SAMPLES (1 << 20)

/** The shares at which the distribution of round trips is told; QUANTILES in bench/statistics.ts is the same list. */
static const double QUANTILES[] = { 0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 1 };

static void pingpong(void)
{
	static float rtt[MAX_SAMPLES];
	struct tally t = { 0 };
	struct how how = { .unordered = opt.unordered }, came;
	size_t samples, at;
	char more[512];
	int eor;

	sha256_init(&t.hash);
	t.first = now();
	do {
		const uint8_t *p = pattern + t.bytes % PERIOD;
		double start = now();
		size_t have = 0;
		stack_send(p, opt.message, &how);
		do {
			ssize_t n = stack_receive(buffer + have, sizeof(buffer) - have, &eor, &came);
			if (n == 0)
				fail("the association ended before the echo came");
			have += (size_t)n;
		} while (!eor && have < sizeof(buffer));
		if (have != opt.message || memcmp(buffer, p, have))
			fail("the echo of message %" PRIu64 " differs from what was sent", t.messages);
		rtt[t.messages % MAX_SAMPLES] = (float)((now() - start) * 1e6);
		tally_bytes(&t, p, opt.message);
		t.messages++;
	} while (!(opt.bytes && t.bytes >= opt.bytes) && !(opt.count && t.messages >= opt.count) &&
	         !(opt.seconds > 0 && now() - t.first >= opt.seconds));
	t.last = now();
	stack_shutdown();
	while (stack_receive(buffer, sizeof(buffer), &eor, &came) > 0)
		;
	samples = t.messages < MAX_SAMPLES ? (size_t)t.messages : MAX_SAMPLES;
	qsort(rtt, samples, sizeof(rtt[0]), by_value);
	at = (size_t)snprintf(more, sizeof(more), ",\"rttMedianUs\":%.1f,\"rttP99Us\":%.1f,\"rttMaxUs\":%.1f,\"rttUs\":[",
	                      rtt[samples / 2], rtt[samples * 99 / 100], rtt[samples - 1]);
	for (size_t i = 0; i < sizeof(QUANTILES) / sizeof(QUANTILES[0]); i++)
		at += (size_t)snprintf(more + at, sizeof(more) - at, "%s%.2f", i ? "," : "",
		                       rtt[(size_t)(QUANTILES[i] * (double)(samples - 1) + 0.5)]);
	snprintf(more + at, sizeof(more) - at, "]");
	report(&t, more);
}

static void serve(void)
{
	stack_listen();
	printf("{\"ready\":true}\n");
	fflush(stdout);
	for (int i = 0; i < opt.associations; i++) {
		stack_accept();
		if (opt.mode == SINK)
			sink();
		else
			echo();
		stack_close();
	}
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_timeout };

	parse(argc, argv);
	sigaction(SIGALRM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	alarm((unsigned)opt.timeout);
	fill_pattern();
	stack_start();
	if (opt.mode == SINK || opt.mode == ECHO) {
		serve();
	} else {
		stack_connect();
		if (opt.mode == SOURCE)
			source();
		else
			pingpong();
		stack_close();
	}
	stack_exit();
}
