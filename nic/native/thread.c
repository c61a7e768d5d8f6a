/* The calling thread's processor (sched_setaffinity(2)): worker appliances keep to one core each. */
#include "nke.h"

#include <sched.h>

/* threadPin(n) -> number of the processor that the calling thread now keeps to, the n-th of those it might use; or -errno */
static napi_value thread_pin(napi_env env, napi_callback_info info) {
  napi_value a[1];
  int32_t n;
  cpu_set_t allowed, one;
  if (!nke_args(env, info, 1, a) || !nke_get_i32(env, a[0], &n) || n < 0) return nke_type_error(env, "threadPin(n)");
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return nke_i32(env, -errno);
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &allowed) || n-- > 0) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return nke_i32(env, sched_setaffinity(0, sizeof one, &one) == 0 ? cpu : -errno);
  }
  return nke_i32(env, -EINVAL);
}

bool nke_thread_init(napi_env env, napi_value exports) { return nke_export(env, exports, "threadPin", thread_pin); }
