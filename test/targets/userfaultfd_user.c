// Uses userfaultfd itself on a range of its own, with a thread that serves it: a second pager must leave that range
// alone and page the rest.
#include "target.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

static int fd;
static char* range;
static uint32_t range_pages;
static uint64_t served;

static void* serve(void* arg) {
  char* source = arg;
  for (;;) {
    struct uffd_msg m;
    if (read(fd, &m, sizeof m) != sizeof m) fail_errno("read userfaultfd");
    if (m.event != UFFD_EVENT_PAGEFAULT) continue;
    uint64_t page = m.arg.pagefault.address & ~(uint64_t)(PAGE - 1);
    struct page model = {.key = 8000000 + (page - (uintptr_t)range) / PAGE};
    page_write(source, &model);
    __atomic_fetch_add(&served, 1, __ATOMIC_SEQ_CST);
    struct uffdio_copy copy = {.dst = page, .src = (uintptr_t)source, .len = PAGE};
    if (ioctl(fd, UFFDIO_COPY, &copy) && errno != EEXIST) fail_errno("UFFDIO_COPY");
  }
  return NULL;
}

int main(int argc, char** argv) {
  parse_options(argc, argv);
  range_pages = opt.pages / 4;
  struct area a = area_make(opt.pages, 0);
  area_fill(&a);
  struct rng r = rng_make(0);
  range = map_pages(range_pages);
  fd = syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* user mode only: needs no right */);
  struct uffdio_api api = {.api = UFFD_API};
  struct uffdio_register reg = {.range = {(uintptr_t)range, (uint64_t)range_pages * PAGE},
                                .mode = UFFDIO_REGISTER_MODE_MISSING};
  if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg)) {
    say("NOTE no userfaultfd here: %s\n", strerror(errno));
    exit(77);
  }
  // Its thread's own memory must not wait for the thread itself: it is touched before anything else.
  pthread_t thread;
  if (pthread_create(&thread, NULL, serve, map_pages(1))) fail_errno("pthread_create");
  ready();
  uint32_t round = 0;
  for (; more(round); round++) {
    area_churn(&a, &r, opt.pages);
    for (uint32_t i = 0; i < range_pages; i++) {
      struct page want = {.key = 8000000 + i, .generation = 1};
      page_check("served by itself", range + (size_t)i * PAGE, &want);
    }
    MUST(madvise(range, (size_t)range_pages * PAGE, MADV_DONTNEED));
  }
  hold();
  if (served != (uint64_t)round * range_pages) fail("faults served", 0, served, (uint64_t)round * range_pages);
  done(area_sum(0, &a), round);
  return 0;
}
