/*
 * The limit of work over `packet:`: two processes that do only the mapped rings (TPACKET_V3) on the two ends of a veth pair and, on
 * demand, the checksums. The sender fills frames of one size and kicks the kernel once a batch; the receiver counts.
 *
 *   packet-ring SECONDS NETNS_A INTERFACE_A NETNS_B INTERFACE_B [FRAME 1514] [CRC 0|1] [BATCH 64]
 *
 * FRAME counts no FCS. With CRC 1 the frame is IPv4 with SCTP: the sender copies the payload in and fills in the CRC32c, the
 * receiver copies it out and checks it. Prints {"frames","seconds","rate","gbps","sent","bad"}: frames a second and bits of
 * frames a second, measured by the receiver after half a second. Works in the two namespaces named and nowhere else.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

#define BLOCK (128 << 10)
#define RX_BLOCKS 32
#define TX_FRAME 2048
#define TX_BLOCKS 16
#define TX_FRAMES (TX_BLOCKS * (BLOCK / TX_FRAME))
#define TX_DATA 48
#define HEADERS (14 + 20)
#define WARMUP 0.5

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c(const uint8_t *p, size_t n) {
  uint64_t c = 0xffffffffu;
  for (; n >= 8; n -= 8, p += 8) {
    uint64_t x;
    memcpy(&x, p, 8);
    c = _mm_crc32_u64(c, x);
  }
  for (; n > 0; n--) c = _mm_crc32_u8((uint32_t)c, *p++);
  return ~(uint32_t)c;
}
#else
static uint32_t crc32c(const uint8_t *p, size_t n) {
  uint32_t c = 0xffffffffu;
  while (n-- > 0) {
    c ^= *p++;
    for (int k = 0; k < 8; k++) c = (c & 1) ? (c >> 1) ^ 0x82f63b78u : c >> 1;
  }
  return ~c;
}
#endif

static void enter(const char *netns) {
  int fd = open(netns, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) die("packet-ring: namespace");
  close(fd);
}

/* A bound socket and its mapped ring. */
static uint8_t *ring(const char *netns, const char *name, int which, unsigned blocks, unsigned frame, int *out) {
  enter(netns);
  int version = TPACKET_V3, one = 1, buffer = 16 << 20;
  int fd = socket(AF_PACKET, SOCK_RAW, 0);
  struct tpacket_req3 req = {.tp_block_size = BLOCK, .tp_block_nr = blocks, .tp_frame_size = frame, .tp_frame_nr = blocks * (BLOCK / frame)};
  if (which == PACKET_RX_RING) req.tp_retire_blk_tov = 1;
  if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) != 0) die("packet-ring: socket");
  setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
  setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);
  if (setsockopt(fd, SOL_PACKET, which, &req, sizeof req) != 0) die("packet-ring: ring");
  uint8_t *p = mmap(NULL, (size_t)blocks * BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(name)};
  to.sll_protocol = which == PACKET_RX_RING ? htons(ETH_P_ALL) : 0;
  if (p == MAP_FAILED || to.sll_ifindex == 0 || bind(fd, (struct sockaddr *)&to, sizeof to) != 0) die("packet-ring: bind");
  *out = fd;
  return p;
}

static void build(uint8_t *f, size_t size) {
  memset(f, 0, size);
  memcpy(f, "\x02\0\0\0\0\2\x02\0\0\0\0\1\x08\0", 14);
  uint8_t *ip = f + 14;
  ip[0] = 0x45;
  ip[2] = (uint8_t)((size - 14) >> 8);
  ip[3] = (uint8_t)(size - 14);
  ip[8] = 64;
  ip[9] = 132;
  memcpy(ip + 12, "\x0a\7\0\1\x0a\7\0\2", 8);
  for (size_t i = HEADERS; i < size; i++) f[i] = (uint8_t)i;
}

static void sender(uint8_t *p, int fd, size_t size, int crc, unsigned batch, double end, _Atomic uint64_t *sent) {
  static uint8_t model[TX_FRAME];
  unsigned head = 0;
  build(model, size);
  for (unsigned i = 0; i < TX_FRAMES; i++) build(p + (size_t)i * TX_FRAME + TX_DATA, size);
  while (now() < end) {
    unsigned n = 0;
    for (; n < batch; n++) {
      struct tpacket3_hdr *h = (void *)(p + (size_t)head * TX_FRAME);
      if (atomic_load_explicit((_Atomic uint32_t *)&h->tp_status, memory_order_acquire) != TP_STATUS_AVAILABLE) break;
      uint8_t *f = (uint8_t *)h + TX_DATA;
      if (crc) {
        memcpy(f, model, size);
        memset(f + HEADERS + 8, 0, 4);
        uint32_t c = crc32c(f + HEADERS, size - HEADERS);
        memcpy(f + HEADERS + 8, &c, 4);
      }
      h->tp_len = (uint32_t)size;
      h->tp_next_offset = 0;
      atomic_store_explicit((_Atomic uint32_t *)&h->tp_status, TP_STATUS_SEND_REQUEST, memory_order_release);
      head = (head + 1) % TX_FRAMES;
    }
    send(fd, NULL, 0, MSG_DONTWAIT);
    atomic_fetch_add(sent, n);
  }
}

static void receiver(uint8_t *p, int fd, size_t size, int crc, double begin, double end, uint64_t *frames, uint64_t *bad) {
  static uint8_t copy[65536];
  unsigned block = 0;
  while (now() < end) {
    struct tpacket_block_desc *b = (void *)(p + (size_t)block * BLOCK);
    _Atomic uint32_t *status = (_Atomic uint32_t *)&b->hdr.bh1.block_status;
    if ((atomic_load_explicit(status, memory_order_acquire) & TP_STATUS_USER) == 0) {
      struct pollfd w = {.fd = fd, .events = POLLIN};
      poll(&w, 1, 10);
      continue;
    }
    struct tpacket3_hdr *h = (void *)((uint8_t *)b + b->hdr.bh1.offset_to_first_pkt);
    int counts = now() >= begin;
    for (uint32_t i = 0; i < b->hdr.bh1.num_pkts; i++) {
      uint8_t *f = (uint8_t *)h + h->tp_mac;
      if (h->tp_len == size && f[6] == 2 && f[11] == 1) {
        if (crc) {
          uint32_t told, c;
          memcpy(copy, f, size);
          memcpy(&told, copy + HEADERS + 8, 4);
          memset(copy + HEADERS + 8, 0, 4);
          c = crc32c(copy + HEADERS, size - HEADERS);
          if (c != told) ++*bad;
        }
        if (counts) ++*frames;
      }
      h = (void *)((uint8_t *)h + h->tp_next_offset);
    }
    atomic_store_explicit(status, TP_STATUS_KERNEL, memory_order_release);
    block = (block + 1) % RX_BLOCKS;
  }
}

int main(int argc, char **argv) {
  double seconds = argc > 5 ? atof(argv[1]) : 0;
  size_t size = argc > 6 ? (size_t)atol(argv[6]) : 1514;
  int crc = argc > 7 && atoi(argv[7]) != 0;
  int batch = argc > 8 ? atoi(argv[8]) : 64;
  if (!(seconds > 0 && seconds <= 600) || size < 60 || size > TX_FRAME - TX_DATA || batch < 1 || batch > TX_FRAMES) {
    fprintf(stderr, "usage: packet-ring SECONDS NETNS_A INTERFACE_A NETNS_B INTERFACE_B [FRAME 60..2000] [CRC 0|1] [BATCH]\n");
    return 2;
  }
  _Atomic uint64_t *sent = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (sent == MAP_FAILED) die("packet-ring: memory");
  double begin = now() + WARMUP, end = begin + seconds;
  int fd;
  pid_t child = fork();
  if (child < 0) die("packet-ring: fork");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    uint8_t *p = ring(argv[2], argv[3], PACKET_TX_RING, TX_BLOCKS, TX_FRAME, &fd);
    sender(p, fd, size, crc, (unsigned)batch, end, sent);
    _exit(0);
  }
  uint64_t frames = 0, bad = 0;
  uint8_t *p = ring(argv[4], argv[5], PACKET_RX_RING, RX_BLOCKS, TX_FRAME, &fd);
  receiver(p, fd, size, crc, begin, end, &frames, &bad);
  int status;
  waitpid(child, &status, 0);
  printf("{\"frames\":%llu,\"seconds\":%.3f,\"rate\":%.0f,\"gbps\":%.4f,\"sent\":%llu,\"bad\":%llu}\n", (unsigned long long)frames, seconds,
         (double)frames / seconds, (double)frames * (double)size * 8 / seconds / 1e9, (unsigned long long)*sent, (unsigned long long)bad);
  return status == 0 ? 0 : 1;
}
