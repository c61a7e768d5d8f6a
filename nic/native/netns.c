/* Network namespaces: setns(2) moves one thread, so every use that is not for good is bracketed by enter and leave. */
#include "nke.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

int nke_ns_enter(const char *path, int *saved) {
  *saved = -1;
  if (path[0] == 0) return 0;
  int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  if (home < 0) return -errno;
  int there = open(path, O_RDONLY | O_CLOEXEC);
  if (there < 0) {
    int e = errno;
    close(home);
    return -e;
  }
  int r = setns(there, CLONE_NEWNET) == 0 ? 0 : -errno;
  close(there);
  if (r != 0)
    close(home);
  else
    *saved = home;
  return r;
}

void nke_ns_leave(int saved) {
  if (saved < 0) return;
  if (setns(saved, CLONE_NEWNET) != 0)
    napi_fatal_error("nke_ns_leave", NAPI_AUTO_LENGTH, "cannot return to the own network namespace", NAPI_AUTO_LENGTH);
  close(saved);
}

/* enterNamespace(path) -> 0 or -errno. Moves the calling thread for good: the whole program lives there from now on
   (children too, libuv's worker threads not, but those open no sockets of ours). */
static napi_value enter(napi_env env, napi_callback_info info) {
  napi_value a[1];
  char path[256];
  int saved;
  if (!nke_args(env, info, 1, a) || !nke_get_text(env, a[0], path, sizeof path) || path[0] == 0)
    return nke_type_error(env, "enterNamespace(path)");
  int r = nke_ns_enter(path, &saved);
  if (saved >= 0) close(saved);
  return nke_i32(env, r);
}

bool nke_netns_init(napi_env env, napi_value exports) { return nke_export(env, exports, "enterNamespace", enter); }
