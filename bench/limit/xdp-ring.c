/*
 * The limit of `bulk` over xdp: two processes in two network namespaces that do only the rings, system calls and checksums of
 * that work, in AF_XDP's copy mode on a veth pair. The sender fills the CRC32c of each frame and sends batches; the receiver
 * checks each CRC32c and answers every batch with one short frame, which keeps a fixed number of frames in flight, so that
 * nothing is lost.
 *
 *   xdp-ring SECONDS [FRAME 1442] [FRAMES PER BATCH 64] [BATCHES IN FLIGHT 8] [CHECKSUMS 1] [generic]
 *
 * Prints {"frames","bytes","seconds","fps","gbps","bad","mode"}: bytes of whole frames, measured by the receiver. Needs root and
 * the program ip; namespaces and interfaces end with the processes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

#define CHUNK 2048u
#define RING 2048u  /* receive and fill ring; as many frames */
#define TX_RING 1024u
#define HEAD 46u /* Ethernet, IPv4 and SCTP common header; the checksum lies at HEAD - 4 */

static void fail(const char *what) {
  fprintf(stderr, "xdp-ring: %s: %s\n", what, strerror(errno));
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint32_t table[256];
static void make_table(void) {
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (int k = 0; k < 8; k++) c = (c & 1) ? (c >> 1) ^ 0x82f63b78u : c >> 1;
    table[i] = c;
  }
}

/* CRC32c of three stretches of one size at once: the instruction's latency is three cycles. */
#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static void crc3(uint8_t *const p[3], size_t n, uint32_t out[3]) {
  uint64_t a = 0xffffffffu, b = a, c = a;
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    uint64_t x, y, z;
    memcpy(&x, p[0] + i, 8);
    memcpy(&y, p[1] + i, 8);
    memcpy(&z, p[2] + i, 8);
    a = _mm_crc32_u64(a, x);
    b = _mm_crc32_u64(b, y);
    c = _mm_crc32_u64(c, z);
  }
  for (; i < n; i++) {
    a = _mm_crc32_u8((uint32_t)a, p[0][i]);
    b = _mm_crc32_u8((uint32_t)b, p[1][i]);
    c = _mm_crc32_u8((uint32_t)c, p[2][i]);
  }
  out[0] = ~(uint32_t)a;
  out[1] = ~(uint32_t)b;
  out[2] = ~(uint32_t)c;
}
#else
static void crc3(uint8_t *const p[3], size_t n, uint32_t out[3]) {
  for (int k = 0; k < 3; k++) {
    uint32_t c = 0xffffffffu;
    for (size_t i = 0; i < n; i++) c = (c >> 8) ^ table[(c ^ p[k][i]) & 255];
    out[k] = ~c;
  }
}
#endif

/* Fills in (check = 0) or checks the CRC32c of up to three frames of n bytes; returns the bad ones. */
static int checksum(uint8_t *const frame[3], int count, size_t n, int check) {
  uint8_t *p[3];
  uint32_t told[3], crc[3];
  int bad = 0;
  for (int k = 0; k < count; k++) {
    memcpy(&told[k], frame[k] + HEAD - 4, 4);
    memset(frame[k] + HEAD - 4, 0, 4);
    p[k] = frame[k] + HEAD - 12;
  }
  for (int k = count; k < 3; k++) p[k] = p[0];
  crc3(p, n - (HEAD - 12), crc);
  for (int k = 0; k < count; k++) {
    memcpy(frame[k] + HEAD - 4, &crc[k], 4);
    if (check && told[k] != crc[k]) bad++;
  }
  return bad;
}

typedef struct {
  uint32_t *producer, *consumer, *flags;
  void *entries;
  uint32_t next; /* our own counter */
} ring;

typedef struct {
  int fd;
  uint8_t *umem; /* RING frames to receive into, then TX_RING frames to send */
  ring rx, tx, fill, done;
  const char *mode;
} xsk;

static uint32_t acquire(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static void release(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }

static ring map_ring(int fd, int option, uint32_t size, off_t at, const struct xdp_ring_offset *o, size_t entry) {
  uint8_t *p = mmap(NULL, o->desc + size * entry, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, at);
  (void)option;
  if (p == MAP_FAILED) fail("mmap of a ring");
  ring r = {(uint32_t *)(p + o->producer), (uint32_t *)(p + o->consumer), (uint32_t *)(p + o->flags), p + o->desc, 0};
  return r;
}

static int bpf(int cmd, union bpf_attr *attr) { return (int)syscall(__NR_bpf, cmd, attr, sizeof *attr); }

/* Hands every frame of the queue to the socket; attached while the link's descriptor is open. */
static const char *attach(int xsk_fd, int index, int generic) {
  union bpf_attr a;
  memset(&a, 0, sizeof a);
  a.map_type = BPF_MAP_TYPE_XSKMAP;
  a.key_size = a.value_size = 4;
  a.max_entries = 1;
  int map = bpf(BPF_MAP_CREATE, &a);
  if (map < 0) fail("bpf map");
  struct bpf_insn program[] = {
    {.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 2, .src_reg = 1, .off = 16},       /* r2 = ctx->rx_queue_index */
    {.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = map},
    {0},
    {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = XDP_PASS},
    {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map},
    {.code = BPF_JMP | BPF_EXIT},
  };
  memset(&a, 0, sizeof a);
  a.prog_type = BPF_PROG_TYPE_XDP;
  a.expected_attach_type = BPF_XDP;
  a.insns = (uint64_t)(uintptr_t)program;
  a.insn_cnt = sizeof program / sizeof *program;
  a.license = (uint64_t)(uintptr_t)"Dual MIT/GPL";
  int prog = bpf(BPF_PROG_LOAD, &a);
  if (prog < 0) fail("bpf program");
  uint32_t key = 0, value = (uint32_t)xsk_fd;
  memset(&a, 0, sizeof a);
  a.map_fd = (uint32_t)map;
  a.key = (uint64_t)(uintptr_t)&key;
  a.value = (uint64_t)(uintptr_t)&value;
  if (bpf(BPF_MAP_UPDATE_ELEM, &a) != 0) fail("bpf map update");
  for (int skb = generic; skb < 2; skb++) {
    memset(&a, 0, sizeof a);
    a.link_create.prog_fd = (uint32_t)prog;
    a.link_create.target_ifindex = (uint32_t)index;
    a.link_create.attach_type = BPF_XDP;
    a.link_create.flags = skb ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE;
    if (bpf(BPF_LINK_CREATE, &a) >= 0) return skb ? "generic" : "native";
  }
  fail("attaching the program");
  return "";
}

static xsk open_xsk(const char *name, int generic) {
  xsk x = {0};
  int index = (int)if_nametoindex(name);
  if (index == 0) fail(name);
  size_t bytes = (size_t)(RING + TX_RING) * CHUNK;
  x.umem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  x.fd = socket(AF_XDP, SOCK_RAW, 0);
  if (x.umem == MAP_FAILED || x.fd < 0) fail("AF_XDP socket");
  struct xdp_umem_reg reg = {.addr = (uint64_t)(uintptr_t)x.umem, .len = bytes, .chunk_size = CHUNK};
  if (setsockopt(x.fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof reg) != 0) fail("UMEM");
  int big = 16 << 20, budget = TX_RING;
  const int sizes[4] = {RING, TX_RING, RING, 2 * TX_RING}, options[4] = {XDP_RX_RING, XDP_TX_RING, XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING};
  for (int i = 0; i < 4; i++)
    if (setsockopt(x.fd, SOL_XDP, options[i], &sizes[i], sizeof sizes[i]) != 0) fail("ring");
  setsockopt(x.fd, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof big);
  setsockopt(x.fd, SOL_XDP, 9 /* XDP_MAX_TX_SKB_BUDGET, Linux 6.17 */, &budget, sizeof budget);
  struct xdp_mmap_offsets o;
  socklen_t n = sizeof o;
  if (getsockopt(x.fd, SOL_XDP, XDP_MMAP_OFFSETS, &o, &n) != 0) fail("ring offsets");
  x.rx = map_ring(x.fd, XDP_RX_RING, RING, XDP_PGOFF_RX_RING, &o.rx, sizeof(struct xdp_desc));
  x.tx = map_ring(x.fd, XDP_TX_RING, TX_RING, XDP_PGOFF_TX_RING, &o.tx, sizeof(struct xdp_desc));
  x.fill = map_ring(x.fd, XDP_UMEM_FILL_RING, RING, (off_t)XDP_UMEM_PGOFF_FILL_RING, &o.fr, 8);
  x.done = map_ring(x.fd, XDP_UMEM_COMPLETION_RING, 2 * TX_RING, (off_t)XDP_UMEM_PGOFF_COMPLETION_RING, &o.cr, 8);
  for (uint32_t i = 0; i < RING; i++) ((uint64_t *)x.fill.entries)[i] = (uint64_t)i * CHUNK;
  release(x.fill.producer, x.fill.next = RING);
  x.mode = attach(x.fd, index, generic);
  struct sockaddr_xdp to = {.sxdp_family = AF_XDP, .sxdp_flags = XDP_COPY | XDP_USE_NEED_WAKEUP, .sxdp_ifindex = (uint32_t)index};
  if (bind(x.fd, (struct sockaddr *)&to, sizeof to) != 0) fail("bind");
  return x;
}

static uint8_t *tx_frame(xsk *x, uint32_t i) { return x->umem + (size_t)(RING + i % TX_RING) * CHUNK; }

/* Sends `count` frames of n bytes that lie in the transmit frames from x->tx.next on. */
static void send_frames(xsk *x, uint32_t count, uint32_t n) {
  for (uint32_t i = 0; i < count; i++, x->tx.next++) {
    struct xdp_desc *d = (struct xdp_desc *)x->tx.entries + x->tx.next % TX_RING;
    d->addr = (uint64_t)(tx_frame(x, x->tx.next) - x->umem);
    d->len = n;
    d->options = 0;
  }
  release(x->tx.producer, x->tx.next);
  while (acquire(x->tx.consumer) != x->tx.next)
    if (sendto(x->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 && errno != EAGAIN && errno != ENOBUFS && errno != EBUSY) fail("send");
  release(x->done.consumer, acquire(x->done.producer));
}

/* Gives frames back to the kernel and returns how many there were; `see` is told of each group of up to three. */
static uint32_t receive(xsk *x, uint32_t frame, int crc, long *bad, uint32_t *of_size) {
  uint32_t end = acquire(x->rx.producer), got = end - x->rx.next;
  uint8_t *group[3];
  int n = 0;
  for (; x->rx.next != end; x->rx.next++) {
    const struct xdp_desc *d = (const struct xdp_desc *)x->rx.entries + x->rx.next % RING;
    if (d->len == frame) {
      (*of_size)++;
      group[n++] = x->umem + d->addr;
      if (n == 3) {
        if (crc) *bad += checksum(group, 3, frame, 1);
        n = 0;
      }
    }
    ((uint64_t *)x->fill.entries)[x->fill.next++ % RING] = d->addr & ~(uint64_t)(CHUNK - 1);
  }
  if (n > 0 && crc) *bad += checksum(group, n, frame, 1);
  release(x->rx.consumer, x->rx.next);
  release(x->fill.producer, x->fill.next);
  return got;
}

/* Readable, or the time is up: spins for 50 us first, for going to sleep costs more than the next batch takes. */
static int wait_for(xsk *x, int ms) {
  for (double end = now() + 50e-6; now() < end;)
    for (int i = 0; i < 100; i++)
      if (acquire(x->rx.producer) != x->rx.next) return 1;
  struct pollfd p = {.fd = x->fd, .events = POLLIN};
  return poll(&p, 1, ms) > 0;
}

static void transmit(xsk *x, uint32_t frame, uint32_t batch, uint32_t window, int crc) {
  long none = 0;
  for (uint32_t i = 0; i < TX_RING; i++) {
    uint8_t *p = tx_frame(x, i);
    for (uint32_t k = 0; k < frame; k++) p[k] = (uint8_t)k;
    memset(p, 0xff, 6);
    p[12] = 0x88;
    p[13] = 0xb5;
  }
  for (uint32_t flying = 0;;) {
    for (; flying < window; flying++) {
      for (uint32_t i = 0; crc && i < batch; i += 3) {
        uint8_t *group[3];
        int n = 0;
        for (; n < 3 && i + (uint32_t)n < batch; n++) group[n] = tx_frame(x, x->tx.next + i + (uint32_t)n);
        checksum(group, n, frame, 0);
      }
      send_frames(x, batch, frame);
    }
    if (!wait_for(x, 1000)) {
      flying = 0; /* an answer was lost: begin anew */
      continue;
    }
    uint32_t acks = 0;
    receive(x, 60, 0, &none, &acks);
    flying -= acks < flying ? acks : flying;
  }
}

static void sink(xsk *x, double seconds, uint32_t frame, uint32_t batch, int crc) {
  double start = 0, t = 0;
  unsigned long long frames = 0;
  long bad = 0;
  uint32_t owed = 0;
  while (start == 0 || t - start < seconds) {
    uint32_t got = 0;
    if (!wait_for(x, 5000)) break;
    receive(x, frame, crc, &bad, &got);
    t = now();
    if (got == 0) continue;
    if (start == 0) start = t;
    else frames += got;
    for (owed += got; owed >= batch; owed -= batch) {
      uint8_t *p = tx_frame(x, x->tx.next);
      memset(p, 0xff, 6);
      p[12] = 0x88;
      p[13] = 0xb5;
      send_frames(x, 1, 60);
    }
  }
  double s = t - start;
  printf("{\"frames\":%llu,\"bytes\":%llu,\"seconds\":%.6f,\"fps\":%.0f,\"gbps\":%.3f,\"bad\":%ld,\"mode\":\"%s\"}\n", frames, frames * frame, s,
         s > 0 ? (double)frames / s : 0, s > 0 ? (double)frames * frame * 8 / s / 1e9 : 0, bad, x->mode);
}

static void run(const char *const argv[]) {
  pid_t pid = fork();
  int status = 0;
  if (pid == 0) {
    execvp(argv[0], (char *const *)argv);
    _exit(127);
  }
  if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0) fail("ip (package iproute2)");
}

static void quiet_interface(const char *name) {
  run((const char *const[]){"ip", "link", "set", name, "addrgenmode", "none", NULL});
  run((const char *const[]){"ip", "link", "set", name, "up", NULL});
}

int main(int argc, char **argv) {
  double seconds = argc > 1 ? atof(argv[1]) : 2;
  int frame = argc > 2 ? atoi(argv[2]) : 1442, batch = argc > 3 ? atoi(argv[3]) : 64, window = argc > 4 ? atoi(argv[4]) : 8;
  int crc = argc > 5 ? atoi(argv[5]) : 1, generic = argc > 6 && strcmp(argv[6], "generic") == 0;
  if (seconds <= 0 || seconds > 60 || frame < 64 || frame > 1514 || batch < 1 || batch > 256 || window < 1 || batch * window > (int)TX_RING) {
    fprintf(stderr, "usage: xdp-ring SECONDS(1..60) [FRAME(64..1514)] [FRAMES(1..256)] [IN-FLIGHT] [CHECKSUMS(0|1)] [generic]; 1024 frames in flight at most\n");
    return 2;
  }
  make_table();
  int ready[2], made[2];
  char c = 0, pid[16];
  if (pipe(ready) != 0 || pipe(made) != 0) fail("pipe");
  pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (unshare(CLONE_NEWNET) != 0) fail("a network namespace needs root");
    if (write(ready[1], "r", 1) != 1 || read(made[0], &c, 1) != 1) _exit(1);
    quiet_interface("xb");
    xsk x = open_xsk("xb", generic);
    if (write(ready[1], "o", 1) != 1 || read(made[0], &c, 1) != 1) _exit(1);
    transmit(&x, (uint32_t)frame, (uint32_t)batch, (uint32_t)window, crc);
    _exit(0);
  }
  close(ready[1]);
  close(made[0]);
  if (unshare(CLONE_NEWNET) != 0) fail("a network namespace needs root");
  if (read(ready[0], &c, 1) != 1) return 1;
  snprintf(pid, sizeof pid, "%d", child);
  run((const char *const[]){"ip", "link", "add", "xa", "type", "veth", "peer", "name", "xb", "netns", pid, NULL});
  quiet_interface("xa");
  if (write(made[1], "m", 1) != 1 || read(ready[0], &c, 1) != 1) return 1;
  xsk x = open_xsk("xa", generic);
  if (write(made[1], "g", 1) != 1) return 1;
  sink(&x, seconds, (uint32_t)frame, (uint32_t)batch, crc);
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  return 0;
}
