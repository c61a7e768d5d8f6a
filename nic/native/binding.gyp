{
  "targets": [
    {
      "target_name": "nke_native",
      "sources": ["module.c", "memory.c", "poll.c", "thread.c", "netns.c", "udp.c", "tuntap.c", "netlink.c", "packet.c", "bpf.c", "xdp.c", "crc32c.c", "crc32c-fold.c"],
      "cflags": ["-O3", "-Wall", "-Wextra", "-std=gnu11"],
      "defines": ["NAPI_VERSION=8", "_GNU_SOURCE"]
    }
  ]
}
