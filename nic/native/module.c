/* Module entry and argument helpers (Node-API version 8). */
#include "nke.h"

#include <string.h>

bool nke_args(napi_env env, napi_callback_info info, size_t want, napi_value *argv) {
  size_t argc = want;
  return napi_get_cb_info(env, info, &argc, argv, NULL, NULL) == napi_ok;
}

bool nke_get_bytes(napi_env env, napi_value v, nke_bytes *out) {
  napi_typedarray_type type;
  void *data;
  size_t n;
  if (napi_get_typedarray_info(env, v, &type, &n, &data, NULL, NULL) != napi_ok || type != napi_uint8_array) return false;
  out->p = data;
  out->n = n;
  return true;
}

bool nke_get_words(napi_env env, napi_value v, nke_words *out) {
  napi_typedarray_type type;
  void *data;
  size_t n;
  if (napi_get_typedarray_info(env, v, &type, &n, &data, NULL, NULL) != napi_ok || type != napi_int32_array) return false;
  out->p = data;
  out->n = n;
  return true;
}

bool nke_get_i32(napi_env env, napi_value v, int32_t *out) { return napi_get_value_int32(env, v, out) == napi_ok; }

bool nke_get_text(napi_env env, napi_value v, char *out, size_t cap) {
  napi_valuetype type;
  out[0] = 0;
  if (napi_typeof(env, v, &type) != napi_ok) return false;
  if (type == napi_undefined || type == napi_null) return true;
  size_t n = 0;
  if (type != napi_string || napi_get_value_string_utf8(env, v, NULL, 0, &n) != napi_ok || n >= cap) return false;
  if (napi_get_value_string_utf8(env, v, out, cap, &n) != napi_ok) return false;
  return strlen(out) == n; /* no NUL inside */
}

napi_value nke_i32(napi_env env, int32_t v) {
  napi_value out = NULL;
  napi_create_int32(env, v, &out);
  return out;
}

napi_value nke_type_error(napi_env env, const char *message) {
  napi_throw_type_error(env, NULL, message);
  return NULL;
}

bool nke_export(napi_env env, napi_value exports, const char *name, napi_callback fn) {
  napi_value f;
  return napi_create_function(env, name, NAPI_AUTO_LENGTH, fn, NULL, &f) == napi_ok &&
         napi_set_named_property(env, exports, name, f) == napi_ok;
}

NAPI_MODULE_INIT() {
  nke_crc_setup();
  bool ok = nke_memory_init(env, exports) && nke_poll_init(env, exports) && nke_netns_init(env, exports) && nke_thread_init(env, exports) &&
            nke_udp_init(env, exports) && nke_tuntap_init(env, exports) && nke_netlink_init(env, exports) && nke_packet_init(env, exports) &&
            nke_bpf_init(env, exports) && nke_xdp_init(env, exports) && nke_crc_init(env, exports);
  if (!ok) napi_throw_error(env, NULL, "nke_native: could not register its functions");
  return exports;
}
