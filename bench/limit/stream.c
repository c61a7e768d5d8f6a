/*
 * Kernel TCP and UDP as peers of `bulk` and `messages`: two processes over loopback, one write per message, nothing else.
 *
 *   stream tcp|udp MESSAGE SECONDS
 *
 * TCP has no messages: a write of MESSAGE bytes, read as they come, in pieces of up to 1 MiB. UDP has no flow control: what
 * the receiver does not take in time is lost, and only what it took counts. Prints {"bytes","messages","seconds"}, measured
 * by the receiver from the first byte after a warm-up of a tenth of a second. Loopback only.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
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

#define MAX_MESSAGE (1 << 20)
#define MAX_DATAGRAM 65507
#define WARM_UP 0.1

static uint8_t buf[MAX_MESSAGE];

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

/* A socket bound to a port of loopback that the system chooses. */
static int open_socket(int type, struct sockaddr_in *me) {
  int fd = socket(AF_INET, type, 0), big = 4 << 20;
  socklen_t n = sizeof *me;
  memset(me, 0, sizeof *me);
  me->sin_family = AF_INET;
  me->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0 || bind(fd, (struct sockaddr *)me, n) != 0 || getsockname(fd, (struct sockaddr *)me, &n) != 0)
    die("stream: socket");
  if (type == SOCK_DGRAM && setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof big) != 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &big, sizeof big);
  return fd;
}

static void transmit(int fd, size_t message) {
  for (;;) {
    for (size_t sent = 0; sent < message;) {
      ssize_t n = send(fd, buf + sent, message - sent, MSG_NOSIGNAL);
      if (n <= 0) return;
      sent += (size_t)n;
    }
  }
}

static void receive(int fd, size_t message, double seconds) {
  unsigned long long bytes = 0;
  double begun = 0, first = 0, t = 0;
  for (;;) {
    ssize_t n = recv(fd, buf, sizeof buf, 0);
    if (n <= 0) break;
    t = now();
    if (begun == 0) begun = t;
    if (t - begun < WARM_UP) continue;
    if (first == 0) {
      first = t;
      continue;
    }
    bytes += (unsigned long long)n;
    if (t - first > seconds) break;
  }
  printf("{\"bytes\":%llu,\"messages\":%llu,\"seconds\":%.6f}\n", bytes, bytes / message, t - first);
}

int main(int argc, char **argv) {
  int udp = argc > 1 && strcmp(argv[1], "udp") == 0;
  long message = argc > 2 ? atol(argv[2]) : 0;
  double seconds = argc > 3 ? atof(argv[3]) : 0;
  if (argc != 4 || (!udp && strcmp(argv[1], "tcp") != 0) || message < 1 || message > (udp ? MAX_DATAGRAM : MAX_MESSAGE) ||
      seconds <= 0 || seconds > 60) {
    fprintf(stderr, "usage: stream tcp|udp MESSAGE(1..1048576, udp 65507) SECONDS(..60)\n");
    return 2;
  }
  struct sockaddr_in to;
  int rx = open_socket(udp ? SOCK_DGRAM : SOCK_STREAM, &to);
  if (!udp && listen(rx, 1) != 0) die("stream: listen");
  pid_t child = fork();
  if (child < 0) die("stream: fork");
  if (child == 0) {
    struct sockaddr_in me;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(rx);
    int tx = open_socket(udp ? SOCK_DGRAM : SOCK_STREAM, &me);
    if (connect(tx, (struct sockaddr *)&to, sizeof to) == 0) transmit(tx, (size_t)message);
    _exit(0);
  }
  int fd = udp ? rx : accept(rx, NULL, NULL);
  if (fd < 0) die("stream: accept");
  receive(fd, (size_t)message, seconds);
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  return 0;
}
