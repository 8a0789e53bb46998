{
  "variables": {
    # Both headers: the programs build without RDMA too, and say so when it is asked for.
    "has_rdma%": "<!(printf '#include <rdma/rdma_cma.h>\\n#include <infiniband/verbs.h>\\n' | ${CXX:-g++} -E -x c++ - >/dev/null 2>&1 && echo 1 || echo 0)"
  },
  "targets": [
    {
      "target_name": "leap",
      "sources": [
        "native/addon/addon.cc",
        "native/target/arch_x86_64.cc",
        "native/attach/attach.cc",
        "native/target/cgroup.cc",
        "native/engine/engine.cc",
        "native/engine/engine_commands.cc",
        "native/engine/engine_harvest.cc",
        "native/rdma/fabric.cc",
        "native/addon/fabric_addon.cc",
        "native/rdma/fabric_cm.cc",
        "native/rdma/fabric_connection.cc",
        "native/rdma/fabric_device.cc",
        "native/rdma/fabric_queue.cc",
        "native/rdma/fabric_without_rdma.cc",
        "native/store/frames.cc",
        "native/helper/helper.cc",
        "native/helper/helper_discard.cc",
        "native/helper/helper_move.cc",
        "native/attach/inside.cc",
        "native/rdma/memory.cc",
        "native/engine/place.cc",
        "native/engine/poller.cc",
        "native/base/procfs.cc",
        "native/uffd/ranges.cc",
        "native/rdma/remote.cc",
        "native/store/swapfile.cc",
        "native/target/target_check.cc",
        "native/target/tracee.cc",
        "native/uffd/uffd.cc"
      ],
      "include_dirs": ["native", "<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["_GNU_SOURCE", "NAPI_VERSION=8", "NAPI_CPP_EXCEPTIONS"],
      "cflags!": ["-O3", "-fno-omit-frame-pointer"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-fno-rtti", "-fno-exceptions"],
      "cflags_cc": ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-O2", "-fexceptions"],
      "libraries": ["-luring", "-lxxhash"],
      "conditions": [["has_rdma==1", {"defines": ["LEAP_RDMA"], "libraries": ["-lrdmacm", "-libverbs"]}]]
    }
  ]
}
