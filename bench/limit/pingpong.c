/*
 * The limit of `latency`: a message to and fro between two processes over loopback, by kernel UDP (what SCTP in UDP stands
 * on) or TCP, either spinning on the socket or sleeping in the system call.
 *
 *   pingpong udp|tcp spin|sleep BYTES SECONDS
 *
 * Prints {"count","rttUs":[...]}: round trips in microseconds at the shares of QUANTILES. Loopback only.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_BYTES 1400
#define MAX_SAMPLES (1 << 22)
#define WARM_UP 0.1

static const double QUANTILES[] = {0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 1};

static float rtt[MAX_SAMPLES];

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

static int open_socket(int type, struct sockaddr_in *me) {
  int fd = socket(AF_INET, type, 0);
  socklen_t n = sizeof *me;
  memset(me, 0, sizeof *me);
  me->sin_family = AF_INET;
  me->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0 || bind(fd, (struct sockaddr *)me, n) != 0 || getsockname(fd, (struct sockaddr *)me, &n) != 0)
    die("pingpong: socket");
  return fd;
}

/* Takes one message whole; 0 when the other end is gone. */
static int take(int fd, uint8_t *p, size_t bytes, int flags) {
  for (size_t have = 0; have < bytes;) {
    ssize_t n = recv(fd, p + have, bytes - have, flags);
    if (n > 0) have += (size_t)n;
    else if (n == 0 || (errno != EAGAIN && errno != EINTR)) return 0;
  }
  return 1;
}

static int by_value(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

static void report(size_t count) {
  size_t n = count < MAX_SAMPLES ? count : MAX_SAMPLES;
  qsort(rtt, n, sizeof rtt[0], by_value);
  printf("{\"count\":%zu,\"rttUs\":[", count);
  for (size_t i = 0; i < sizeof QUANTILES / sizeof QUANTILES[0]; i++)
    printf("%s%.3f", i ? "," : "", n ? rtt[(size_t)(QUANTILES[i] * (double)(n - 1) + 0.5)] : 0.0);
  printf("]}\n");
}

int main(int argc, char **argv) {
  int udp = argc > 1 && strcmp(argv[1], "udp") == 0, spin = argc > 2 && strcmp(argv[2], "spin") == 0;
  long bytes = argc > 3 ? atol(argv[3]) : 0;
  double seconds = argc > 4 ? atof(argv[4]) : 0;
  if (argc != 5 || (!udp && strcmp(argv[1], "tcp") != 0) || (!spin && strcmp(argv[2], "sleep") != 0) || bytes < 1 ||
      bytes > MAX_BYTES || seconds <= 0 || seconds > 60) {
    fprintf(stderr, "usage: pingpong udp|tcp spin|sleep BYTES(1..1400) SECONDS(..60)\n");
    return 2;
  }
  int type = udp ? SOCK_DGRAM : SOCK_STREAM, flags = spin ? MSG_DONTWAIT : 0, one = 1;
  struct sockaddr_in a, b;
  int fa = open_socket(type, &a), fb = open_socket(type, &b);
  uint8_t buf[MAX_BYTES] = {0};
  if (!udp && listen(fa, 1) != 0) die("pingpong: listen");
  pid_t child = fork();
  if (child < 0) die("pingpong: fork");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(fa);
    if (connect(fb, (struct sockaddr *)&a, sizeof a) != 0) _exit(1);
    if (!udp) setsockopt(fb, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    while (take(fb, buf, (size_t)bytes, flags) && send(fb, buf, (size_t)bytes, MSG_NOSIGNAL) == bytes) {
    }
    _exit(0);
  }
  close(fb);
  int fd = fa;
  if (udp) {
    if (connect(fa, (struct sockaddr *)&b, sizeof b) != 0) die("pingpong: connect");
  } else {
    fd = accept(fa, NULL, NULL);
    if (fd < 0) die("pingpong: accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  }
  size_t count = 0;
  double begun = now(), t = begun;
  while (t - begun < seconds + WARM_UP) {
    if (send(fd, buf, (size_t)bytes, MSG_NOSIGNAL) != bytes || !take(fd, buf, (size_t)bytes, flags)) die("pingpong");
    double end = now();
    if (t - begun > WARM_UP) rtt[count++ % MAX_SAMPLES] = (float)((end - t) * 1e6);
    t = end;
  }
  report(count);
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  return 0;
}
