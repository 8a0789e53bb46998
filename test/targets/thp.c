// Memory in huge pages when the pager comes. `NOTE huge N kB` says how much of it the kernel really gave.
#include "target.h"

static long huge_kb(void) {
  FILE* f = fopen("/proc/self/smaps_rollup", "r");
  char line[256];
  long kb = 0;
  while (f && fgets(line, sizeof line, f))
    if (sscanf(line, "AnonHugePages: %ld kB", &kb) == 1) break;
  if (f) fclose(f);
  return kb;
}

int main(int argc, char** argv) {
  parse_options(argc, argv);
  const size_t huge = 2u << 20;
  struct area a = {.pages = opt.pages, .model = calloc(opt.pages, sizeof(struct page))};
  char* room = map_pages(opt.pages + huge / PAGE);
  a.base = (char*)(((uintptr_t)room + huge - 1) & ~(huge - 1));
  MUST(madvise(a.base, (size_t)opt.pages * PAGE, MADV_HUGEPAGE));
  for (uint32_t i = 0; i < a.pages; i++) a.model[i].key = i;
  area_fill(&a);
  struct rng r = rng_make(0);
  say("NOTE huge %ld kB\n", huge_kb());
  ready();
  uint32_t round = 0;
  for (; more(round); round++) area_churn(&a, &r, opt.pages);
  hold();
  done(area_sum(0, &a), round);
  return 0;
}
