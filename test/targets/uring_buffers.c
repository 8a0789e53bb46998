// Registers buffers with io_uring: they stay pinned, and a pager refuses such a process unless told otherwise.
#include "target.h"

#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <sys/uio.h>

int main(int argc, char** argv) {
  parse_options(argc, argv);
  struct area a = area_make(opt.pages, 0);
  area_fill(&a);
  struct rng r = rng_make(0);
  struct io_uring_params params = {0};
  int ring = syscall(SYS_io_uring_setup, 4, &params);
  struct iovec buffer = {a.base, 16 * PAGE};
  if (ring < 0 || syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1)) {
    say("NOTE no io_uring here: %s\n", strerror(errno));
    exit(77);
  }
  ready();
  uint32_t round = 0;
  for (; more(round); round++) area_churn(&a, &r, opt.pages);
  hold();
  done(area_sum(0, &a), round);
  return 0;
}
