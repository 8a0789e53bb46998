// Holds a descriptor with O_DIRECT, whose reads a device writes straight into memory: a page must not be taken away
// under it. A pager refuses such a process unless told otherwise. mode=late: the file is opened when told to go, and
// used.
#include "target.h"

#include <fcntl.h>

enum { FILE_PAGES = 64 };

static int open_direct(void) {
  char name[] = "./odirect-XXXXXX";
  int file = MUST(mkstemp(name));
  struct area a = area_make(FILE_PAGES, 9000000);
  area_fill(&a);
  if (MUST(write(file, a.base, FILE_PAGES * PAGE)) != FILE_PAGES * PAGE) fail("write", 0, 0, 0);
  MUST(fsync(file));
  close(file);
  file = open(name, O_RDWR | O_DIRECT | O_CLOEXEC);
  unlink(name);
  if (file < 0) {
    say("NOTE no O_DIRECT here\n");
    exit(77);
  }
  return file;
}

int main(int argc, char** argv) {
  parse_options(argc, argv);
  struct area a = area_make(opt.pages, 0);
  area_fill(&a);
  struct rng r = rng_make(0);
  int file = mode_is("late") ? -1 : open_direct();
  ready();
  if (mode_is("late")) file = open_direct();
  uint32_t round = 0;
  for (; more(round); round++) {
    area_churn(&a, &r, opt.pages);
    for (uint32_t i = 0; i < FILE_PAGES; i++) {
      uint32_t to = rng_below(&r, a.pages), from = rng_below(&r, FILE_PAGES);
      struct page want = {.key = 9000000 + from, .generation = 1};
      if (MUST(pread(file, area_page(&a, to), PAGE, (off_t)from * PAGE)) != PAGE) fail("pread", to, 0, 0);
      page_check("read with O_DIRECT", area_page(&a, to), &want);
      page_write(area_page(&a, to), &a.model[to]);
    }
  }
  close(file);
  hold();
  done(area_sum(0, &a), round);
  return 0;
}
