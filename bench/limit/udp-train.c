/*
 * The limit of `bulk`: two processes that do only the system calls and checksums of that work. The sender fills the
 * CRC32c of each packet of a train and sends the train with UDP_SEGMENT; the receiver takes it with UDP_GRO and checks
 * each CRC32c. A one-byte datagram for every train keeps a fixed number of trains in flight, so that nothing is lost.
 *
 *   udp-train SECONDS [PACKET 1428] [PACKETS PER TRAIN 44] [TRAINS IN FLIGHT 4]
 *
 * Prints {"bytes","seconds","gbps","bad"}: payload of UDP, measured by the receiver. Loopback only.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define MAX_TRAIN 65507

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

/* CRC32c of three packets of one size at once: the instruction's latency is three cycles. */
#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static void crc3(const uint8_t *const p[3], size_t n, uint32_t out[3]) {
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
static void crc3(const uint8_t *const p[3], size_t n, uint32_t out[3]) {
  for (int k = 0; k < 3; k++) {
    uint32_t c = 0xffffffffu;
    for (size_t i = 0; i < n; i++) c = (c >> 8) ^ table[(c ^ p[k][i]) & 255];
    out[k] = ~c;
  }
}
#endif

/* Fills in (check = 0) or checks the CRC32c at offset 8 of each packet; returns the bad ones. */
static long checksum(uint8_t *buf, size_t len, size_t packet, int check) {
  long bad = 0;
  for (size_t at = 0; at < len; at += 3 * packet) {
    const uint8_t *p[3];
    uint32_t told[3], crc[3];
    int n = 0;
    for (; n < 3 && at + (size_t)n * packet + packet <= len; n++) {
      uint8_t *q = buf + at + (size_t)n * packet;
      memcpy(&told[n], q + 8, 4);
      memset(q + 8, 0, 4);
      p[n] = q;
    }
    if (n == 0) break;
    for (int k = n; k < 3; k++) p[k] = p[0];
    crc3(p, packet, crc);
    for (int k = 0; k < n; k++) {
      memcpy((uint8_t *)p[k] + 8, &crc[k], 4);
      if (check && told[k] != crc[k]) bad++;
    }
  }
  return bad;
}

static int open_socket(struct sockaddr_in *me) {
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  int big = 4 << 20, one = 1;
  memset(me, 0, sizeof *me);
  me->sin_family = AF_INET;
  me->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t n = sizeof *me;
  if (fd < 0 || bind(fd, (struct sockaddr *)me, n) != 0 || getsockname(fd, (struct sockaddr *)me, &n) != 0) {
    perror("udp-train: socket");
    exit(1);
  }
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof big) != 0) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &big, sizeof big);
  if (setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof one) != 0) {
    perror("udp-train: UDP_GRO (Linux 5.0 is needed)");
    exit(1);
  }
  return fd;
}

static void receive(int fd, double seconds, size_t packet) {
  static uint8_t buf[1 << 16];
  double start = 0, t = 0;
  unsigned long long bytes = 0;
  long bad = 0;
  for (;;) {
    struct sockaddr_in from;
    socklen_t fl = sizeof from;
    ssize_t n = recvfrom(fd, buf, sizeof buf, 0, (struct sockaddr *)&from, &fl);
    if (n <= 0) break;
    bad += checksum(buf, (size_t)n, packet, 1);
    t = now();
    if (start == 0) start = t;
    else bytes += (unsigned long long)n;
    if (sendto(fd, "", 1, 0, (struct sockaddr *)&from, fl) < 0) break;
    if (t - start > seconds) break;
  }
  double s = t - start;
  printf("{\"bytes\":%llu,\"seconds\":%.6f,\"gbps\":%.3f,\"bad\":%ld}\n", bytes, s, s > 0 ? (double)bytes * 8 / s / 1e9 : 0, bad);
}

static void transmit(int fd, const struct sockaddr_in *to, size_t packet, size_t count, int window) {
  static uint8_t buf[MAX_TRAIN];
  for (size_t i = 0; i < sizeof buf; i++) buf[i] = (uint8_t)i;
  size_t len = packet * count;
  struct iovec iov = {.iov_base = buf, .iov_len = len};
  char control[CMSG_SPACE(sizeof(uint16_t))] = {0};
  struct msghdr m = {.msg_name = (void *)to, .msg_namelen = sizeof *to, .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = IPPROTO_UDP;
  c->cmsg_type = UDP_SEGMENT;
  c->cmsg_len = CMSG_LEN(sizeof(uint16_t));
  uint16_t seg = (uint16_t)packet;
  memcpy(CMSG_DATA(c), &seg, sizeof seg);
  for (int flying = 0;;) {
    while (flying < window) {
      checksum(buf, len, packet, 0);
      if (sendmsg(fd, &m, 0) < 0) return;
      flying++;
    }
    char ack[64];
    ssize_t n = recv(fd, ack, sizeof ack, 0); /* coalesced acknowledgements: one byte each */
    if (n <= 0) return;
    flying -= (int)n;
    while ((n = recv(fd, ack, sizeof ack, MSG_DONTWAIT)) > 0) flying -= (int)n;
  }
}

int main(int argc, char **argv) {
  double seconds = argc > 1 ? atof(argv[1]) : 2;
  size_t packet = argc > 2 ? (size_t)atoi(argv[2]) : 1428;
  size_t count = argc > 3 ? (size_t)atoi(argv[3]) : 44;
  int window = argc > 4 ? atoi(argv[4]) : 4;
  if (seconds <= 0 || seconds > 60 || packet < 16 || count < 1 || count > 64 || packet * count > MAX_TRAIN || window < 1 || window > 16) {
    fprintf(stderr, "usage: udp-train SECONDS(1..60) [PACKET] [PACKETS(1..64)] [IN-FLIGHT(1..16)]; a train is at most 65507 bytes\n");
    return 2;
  }
  make_table();
  struct sockaddr_in a, b;
  int rx = open_socket(&a), tx = open_socket(&b);
  pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(rx);
    transmit(tx, &a, packet, count, window);
    _exit(0);
  }
  close(tx);
  receive(rx, seconds, packet);
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  return 0;
}
