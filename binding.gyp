{
  "variables": {
    # 1 where the headers of librdmacm and libibverbs are installed. Without them the addon refuses RDMA when asked for it.
    "has_rdma%": "<!(sh native/has_rdma.sh)"
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
        "native/helper/discard.cc",
        "native/helper/move.cc",
        "native/helper/process.cc",
        "native/helper/program.cc",
        "native/attach/inside.cc",
        "native/rdma/memory.cc",
        "native/engine/place.cc",
        "native/engine/poller.cc",
        "native/base/procfs.cc",
        "native/uffd/ranges.cc",
        "native/rdma/remote.cc",
        "native/store/swapfile.cc",
        "native/target/gadget.cc",
        "native/target/target_check.cc",
        "native/target/thread_state.cc",
        "native/target/tracee.cc",
        "native/uffd/uffd.cc"
      ],
      "include_dirs": ["native", "<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["_GNU_SOURCE", "NAPI_VERSION=8", "NAPI_CPP_EXCEPTIONS"],
      "cflags!": ["-O3", "-fno-omit-frame-pointer"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-fno-rtti", "-fno-exceptions"],
      "cflags_cc": [
        "-std=c++17",
        "-Wall",
        "-Wextra",
        "-Wformat",
        "-Wformat-security",
        "-Werror",
        "-O2",
        "-fexceptions",
        "-fstack-protector-strong",
        "-fstack-clash-protection",
        "-fcf-protection",
        "-U_FORTIFY_SOURCE",
        "-D_FORTIFY_SOURCE=3"
      ],
      "ldflags": ["-Wl,-z,relro,-z,now", "-Wl,-z,noexecstack"],
      "libraries": ["-luring", "-lxxhash"],
      "conditions": [["has_rdma==1", {"defines": ["LEAP_RDMA"], "libraries": ["-lrdmacm", "-libverbs"]}]]
    }
  ]
}
