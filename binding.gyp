{
  "variables": {
    # Both headers: the programs build without RDMA too, and say so when it is asked for.
    "has_rdma%": "<!(printf '#include <rdma/rdma_cma.h>\\n#include <infiniband/verbs.h>\\n' | ${CXX:-g++} -E -x c++ - >/dev/null 2>&1 && echo 1 || echo 0)"
  },
  "targets": [
    {
      "target_name": "leap",
      "sources": [
        "native/addon.cc",
        "native/arch_x86_64.cc",
        "native/attach.cc",
        "native/cgroup.cc",
        "native/engine.cc",
        "native/engine_commands.cc",
        "native/engine_harvest.cc",
        "native/fabric.cc",
        "native/fabric_addon.cc",
        "native/fabric_cm.cc",
        "native/fabric_connection.cc",
        "native/fabric_device.cc",
        "native/fabric_queue.cc",
        "native/fabric_without_rdma.cc",
        "native/frames.cc",
        "native/helper.cc",
        "native/helper_discard.cc",
        "native/helper_move.cc",
        "native/inside.cc",
        "native/memory.cc",
        "native/place.cc",
        "native/poller.cc",
        "native/procfs.cc",
        "native/ranges.cc",
        "native/remote.cc",
        "native/swapfile.cc",
        "native/target_check.cc",
        "native/tracee.cc",
        "native/uffd.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["_GNU_SOURCE", "NAPI_VERSION=8", "NAPI_CPP_EXCEPTIONS"],
      "cflags!": ["-O3", "-fno-omit-frame-pointer"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-fno-rtti", "-fno-exceptions"],
      "cflags_cc": ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-O2", "-fexceptions"],
      "libraries": ["-luring", "-lxxhash"],
      "conditions": [["has_rdma==1", {"defines": ["LEAP_RDMA"], "libraries": ["-lrdmacm", "-libverbs"]}]]
    }
  ]
}
