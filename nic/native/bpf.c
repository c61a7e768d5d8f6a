/*
 * bpf(2): what an XDP port needs of it. A map, its entries, a program with the verifier's log, and a link that attaches the
 * program to an interface for as long as the link's descriptor is open: when this process dies, however, the kernel detaches it.
 */
#include "nke.h"

#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int bpf(enum bpf_cmd cmd, union bpf_attr *attr) {
  long r = syscall(__NR_bpf, cmd, attr, sizeof *attr);
  return r < 0 ? -errno : (int)r;
}

static uint64_t address(const void *p) { return (uint64_t)(uintptr_t)p; }

/* bpfMapCreate(type, key bytes, value bytes, entries) -> fd or -errno */
static napi_value map_create(napi_env env, napi_callback_info info) {
  napi_value a[4];
  int32_t v[4];
  if (!nke_args(env, info, 4, a)) return NULL;
  for (int i = 0; i < 4; i++)
    if (!nke_get_i32(env, a[i], &v[i]) || v[i] < 0) return nke_type_error(env, "bpfMapCreate(type, key bytes, value bytes, entries)");
  union bpf_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.map_type = (uint32_t)v[0];
  attr.key_size = (uint32_t)v[1];
  attr.value_size = (uint32_t)v[2];
  attr.max_entries = (uint32_t)v[3];
  return nke_i32(env, bpf(BPF_MAP_CREATE, &attr));
}

/*
 * bpfMapUpdate(fd, key, value) -> 0 or -errno. The kernel reads as many bytes as the map was made with: it is asked first, and
 * arrays of other lengths are an error.
 */
static napi_value map_update(napi_env env, napi_callback_info info) {
  napi_value a[3];
  int32_t fd;
  nke_bytes key, value;
  if (!nke_args(env, info, 3, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_bytes(env, a[1], &key) || !nke_get_bytes(env, a[2], &value))
    return nke_type_error(env, "bpfMapUpdate(fd, key, value)");
  struct bpf_map_info map;
  union bpf_attr attr;
  memset(&map, 0, sizeof map);
  memset(&attr, 0, sizeof attr);
  attr.info.bpf_fd = (uint32_t)fd;
  attr.info.info_len = sizeof map;
  attr.info.info = address(&map);
  int r = bpf(BPF_OBJ_GET_INFO_BY_FD, &attr);
  if (r < 0) return nke_i32(env, r);
  if (key.n != map.key_size || value.n != map.value_size) return nke_type_error(env, "bpfMapUpdate: key and value must have the lengths of the map's");
  memset(&attr, 0, sizeof attr);
  attr.map_fd = (uint32_t)fd;
  attr.key = address(key.p);
  attr.value = address(value.p);
  return nke_i32(env, bpf(BPF_MAP_UPDATE_ELEM, &attr));
}

/*
 * bpfProgLoad(type, attach type, instructions of 8 bytes each, flags, log) -> fd or -errno. A log of no bytes asks for none; the
 * kernel ends what it writes with a zero byte.
 */
static napi_value prog_load(napi_env env, napi_callback_info info) {
  static const char license[] = "Dual MIT/GPL";
  napi_value a[5];
  int32_t type, attach, flags;
  nke_bytes insns, log;
  if (!nke_args(env, info, 5, a) || !nke_get_i32(env, a[0], &type) || !nke_get_i32(env, a[1], &attach) || !nke_get_bytes(env, a[2], &insns) ||
      !nke_get_i32(env, a[3], &flags) || !nke_get_bytes(env, a[4], &log) || insns.n == 0 || insns.n % sizeof(struct bpf_insn) != 0)
    return nke_type_error(env, "bpfProgLoad(type, attach type, instructions, flags, log)");
  union bpf_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.prog_type = (uint32_t)type;
  attr.expected_attach_type = (uint32_t)attach;
  attr.insns = address(insns.p);
  attr.insn_cnt = (uint32_t)(insns.n / sizeof(struct bpf_insn));
  attr.license = address(license);
  attr.prog_flags = (uint32_t)flags;
  if (log.n > 0) {
    attr.log_level = 1;
    attr.log_buf = address(log.p);
    attr.log_size = (uint32_t)log.n;
  }
  memcpy(attr.prog_name, "nke_xdp", 8);
  return nke_i32(env, bpf(BPF_PROG_LOAD, &attr));
}

/* bpfLinkCreate(program, interface index, attach type, flags, netns path?) -> fd or -errno */
static napi_value link_create(napi_env env, napi_callback_info info) {
  napi_value a[5];
  int32_t v[4];
  char ns[256];
  int saved;
  if (!nke_args(env, info, 5, a)) return NULL;
  for (int i = 0; i < 4; i++)
    if (!nke_get_i32(env, a[i], &v[i])) return nke_type_error(env, "bpfLinkCreate(program, interface, attach type, flags, netns?)");
  if (!nke_get_text(env, a[4], ns, sizeof ns)) return nke_type_error(env, "bpfLinkCreate: netns is a path");
  union bpf_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.link_create.prog_fd = (uint32_t)v[0];
  attr.link_create.target_ifindex = (uint32_t)v[1];
  attr.link_create.attach_type = (uint32_t)v[2];
  attr.link_create.flags = (uint32_t)v[3];
  int r = nke_ns_enter(ns, &saved);
  if (r == 0) {
    r = bpf(BPF_LINK_CREATE, &attr);
    nke_ns_leave(saved);
  }
  return nke_i32(env, r);
}

/* bpfLinkUpdate(link, program) -> 0 or -errno: another program in the place of the present one, at once. */
static napi_value link_update(napi_env env, napi_callback_info info) {
  napi_value a[2];
  int32_t fd, program;
  if (!nke_args(env, info, 2, a) || !nke_get_i32(env, a[0], &fd) || !nke_get_i32(env, a[1], &program))
    return nke_type_error(env, "bpfLinkUpdate(link, program)");
  union bpf_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.link_update.link_fd = (uint32_t)fd;
  attr.link_update.new_prog_fd = (uint32_t)program;
  return nke_i32(env, bpf(BPF_LINK_UPDATE, &attr));
}

bool nke_bpf_init(napi_env env, napi_value exports) {
  return nke_export(env, exports, "bpfMapCreate", map_create) && nke_export(env, exports, "bpfMapUpdate", map_update) &&
         nke_export(env, exports, "bpfProgLoad", prog_load) && nke_export(env, exports, "bpfLinkCreate", link_create) &&
         nke_export(env, exports, "bpfLinkUpdate", link_update);
}
