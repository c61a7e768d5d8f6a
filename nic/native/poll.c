/*
 * Readiness of an fd on Node's own loop (uv_poll), one shot: a poll that fired is stopped until it is armed again, and a
 * stopped one does not keep the process alive. Polls are small integers, so that JavaScript holds no pointer.
 */
#include "nke.h"

#include <stdlib.h>
#include <uv.h>

#define MAX_POLLS 1024
#define EVENT_ERROR 4 /* to JavaScript, beside 1 readable and 2 writable */

typedef struct {
  uv_poll_t handle;
  napi_env env;
  napi_ref callback;
  napi_async_context context;
  napi_async_cleanup_hook_handle hook;
  int slot;
  bool closing;
} nke_poll;

static _Thread_local nke_poll *polls[MAX_POLLS];

static void on_event(uv_poll_t *h, int status, int events) {
  nke_poll *p = h->data;
  napi_env env = p->env;
  napi_handle_scope scope;
  napi_value fn, self, argument, error;
  bool pending = false;
  uv_poll_stop(h);
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  int bits = (events & UV_READABLE ? 1 : 0) | (events & UV_WRITABLE ? 2 : 0) | (status < 0 ? EVENT_ERROR : 0);
  if (napi_get_reference_value(env, p->callback, &fn) == napi_ok && napi_get_global(env, &self) == napi_ok &&
      napi_create_int32(env, bits, &argument) == napi_ok) {
    napi_make_callback(env, p->context, self, fn, 1, &argument, NULL);
    if (napi_is_exception_pending(env, &pending) == napi_ok && pending && napi_get_and_clear_last_exception(env, &error) == napi_ok)
      napi_fatal_exception(env, error);
  }
  napi_close_handle_scope(env, scope);
}

static void on_closed(uv_handle_t *h) {
  nke_poll *p = h->data;
  napi_remove_async_cleanup_hook(p->hook);
  free(p);
}

static void shut(nke_poll *p) {
  if (p->closing) return;
  p->closing = true;
  polls[p->slot] = NULL;
  napi_delete_reference(p->env, p->callback);
  napi_async_destroy(p->env, p->context);
  uv_close((uv_handle_t *)&p->handle, on_closed);
}

/* The environment ends (process exit, worker termination) while a poll is open. */
static void on_environment_end(napi_async_cleanup_hook_handle hook, void *arg) {
  (void)hook;
  shut(arg);
}

/* pollOpen(fd, callback(events)) -> id >= 0, or -errno */
static napi_value poll_open(napi_env env, napi_callback_info info) {
  napi_value a[2], name;
  napi_valuetype type;
  int32_t fd;
  uv_loop_t *loop;
  if (!nke_args(env, info, 2, a) || !nke_get_i32(env, a[0], &fd) || napi_typeof(env, a[1], &type) != napi_ok || type != napi_function)
    return nke_type_error(env, "pollOpen(fd, callback)");
  int slot = 0;
  while (slot < MAX_POLLS && polls[slot]) slot++;
  if (slot == MAX_POLLS) return nke_i32(env, -EMFILE);
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return nke_i32(env, -ENOTSUP);
  nke_poll *p = calloc(1, sizeof *p);
  if (!p) return nke_i32(env, -ENOMEM);
  int r = uv_poll_init(loop, &p->handle, fd);
  if (r != 0) {
    free(p);
    return nke_i32(env, r);
  }
  p->handle.data = p;
  p->env = env;
  p->slot = slot;
  napi_create_string_utf8(env, "nke.poll", NAPI_AUTO_LENGTH, &name);
  napi_async_init(env, NULL, name, &p->context);
  napi_create_reference(env, a[1], 1, &p->callback);
  napi_add_async_cleanup_hook(env, on_environment_end, p, &p->hook);
  polls[slot] = p;
  return nke_i32(env, slot);
}

static nke_poll *lookup(napi_env env, napi_value v) {
  int32_t id;
  if (!nke_get_i32(env, v, &id) || id < 0 || id >= MAX_POLLS) return NULL;
  return polls[id];
}

/* pollArm(id, events: 1 readable | 2 writable) -> 0 or -errno; fires at most once. */
static napi_value poll_arm(napi_env env, napi_callback_info info) {
  napi_value a[2];
  int32_t events;
  nke_poll *p;
  if (!nke_args(env, info, 2, a) || !nke_get_i32(env, a[1], &events)) return nke_type_error(env, "pollArm(id, events)");
  if (!(p = lookup(env, a[0]))) return nke_i32(env, -EBADF);
  return nke_i32(env, uv_poll_start(&p->handle, (events & 1 ? UV_READABLE : 0) | (events & 2 ? UV_WRITABLE : 0), on_event));
}

/* pollDisarm(id) -> 0 or -errno */
static napi_value poll_disarm(napi_env env, napi_callback_info info) {
  napi_value a[1];
  nke_poll *p;
  if (!nke_args(env, info, 1, a)) return NULL;
  if (!(p = lookup(env, a[0]))) return nke_i32(env, -EBADF);
  return nke_i32(env, uv_poll_stop(&p->handle));
}

/* pollClose(id): must come before the fd is closed. */
static napi_value poll_close(napi_env env, napi_callback_info info) {
  napi_value a[1];
  nke_poll *p;
  if (!nke_args(env, info, 1, a)) return NULL;
  if (!(p = lookup(env, a[0]))) return nke_i32(env, -EBADF);
  shut(p);
  return nke_i32(env, 0);
}

bool nke_poll_init(napi_env env, napi_value exports) {
  return nke_export(env, exports, "pollOpen", poll_open) && nke_export(env, exports, "pollArm", poll_arm) &&
         nke_export(env, exports, "pollDisarm", poll_disarm) && nke_export(env, exports, "pollClose", poll_close);
}
