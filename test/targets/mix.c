// One thread, one mapping: every pattern of reads and writes. The plain target of the tests that are about leapd and
// not about the target. mode=double: as much memory again is mapped and filled when told to go.   mode=read: nothing is
// written any more, pages are only read and checked.
#include "target.h"

static void read_only(const struct area* a, struct rng* r) {
  for (uint32_t i = 0; i < a->pages; i++) page_check("forwards", area_page(a, i), &a->model[i]);
  for (uint32_t i = 0; i < a->pages; i++) {
    uint32_t at = rng_below(r, a->pages);
    page_check("at random", area_page(a, at), &a->model[at]);
  }
}

int main(int argc, char** argv) {
  parse_options(argc, argv);
  struct area a = area_make(opt.pages, 0), more_memory = {0};
  struct rng r = rng_make(0);
  area_fill(&a);
  ready();
  if (mode_is("double")) {
    more_memory = area_make(opt.pages, 1000000);
    area_fill(&more_memory);
  }
  uint32_t round = 0;
  for (; more(round); round++) {
    if (mode_is("read"))
      read_only(&a, &r);
    else
      area_churn(&a, &r, opt.pages);
    if (more_memory.pages) area_churn(&more_memory, &r, opt.pages);
  }
  hold();
  done(area_sum(area_sum(0, &a), &more_memory), round);
  return 0;
}
