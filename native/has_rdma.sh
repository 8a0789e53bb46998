#!/bin/sh
# Prints 1 where the headers of librdmacm and libibverbs are installed, else 0. For binding.gyp and native/test/run.sh.
printf '#include <rdma/rdma_cma.h>\n#include <infiniband/verbs.h>\n' |
  ${CXX:-g++} -E -x c++ - >/dev/null 2>&1 && echo 1 || echo 0
