// madvise and mprotect: DONTNEED must give zeros, FREE zeros or the old bytes until written, PROT_NONE and PROT_READ
// must trap exactly as without a pager and change no byte. mode=lock adds mlock, munlock and MADV_POPULATE_*.
#include "target.h"

#include <signal.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

static struct area a;
static bool* freed;  // MADV_FREE was called and nothing written since: the old bytes or zeros
static volatile sig_atomic_t traps;

static void on_segv(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)context;
  char* page = (char*)((uintptr_t)info->si_addr & ~(uintptr_t)(PAGE - 1));
  if (page < a.base || page >= a.base + (size_t)a.pages * PAGE) _exit(9);
  if (mprotect(page, PAGE, PROT_READ | PROT_WRITE)) _exit(8);
  traps++;
}

// Zeros or the old bytes; word 0 may have been written since.
static void check_freed(uint32_t i) {
  struct page *p = &a.model[i], zero = {.key = p->key, .stamp = p->stamp};
  const uint64_t* word = (const uint64_t*)area_page(&a, i);
  page_check("freed", word, ((volatile const uint64_t*)word)[1] == 0 ? &zero : p);
}

static void check(uint32_t i) { page_check("advise", area_page(&a, i), &a.model[i]); }

static void expect_traps(const char* what, int want) {
  if (traps != want) fail(what, 0, traps, want);
  traps = 0;
}

static void protect_and_read(uint32_t at, uint32_t n) {
  MUST(mprotect(area_page(&a, at), (size_t)n * PAGE, PROT_NONE));
  int want = 0;
  for (uint32_t i = at; i < at + n; i += 3, want++) check(i);  // each traps once and is opened by the handler
  expect_traps("reads of PROT_NONE", want);
  MUST(mprotect(area_page(&a, at), (size_t)n * PAGE, PROT_READ | PROT_WRITE));
}

static void protect_and_write(uint32_t at, uint32_t n) {
  MUST(mprotect(area_page(&a, at), (size_t)n * PAGE, PROT_READ));
  for (uint32_t i = at; i < at + n; i++) check(i);
  expect_traps("reads of PROT_READ", 0);
  int want = 0;
  for (uint32_t i = at; i < at + n; i += 2, want++) page_touch(area_page(&a, i), &a.model[i]);
  expect_traps("writes of PROT_READ", want);
  MUST(mprotect(area_page(&a, at), (size_t)n * PAGE, PROT_READ | PROT_WRITE));
  for (uint32_t i = at; i < at + n; i++) page_touch(area_page(&a, i), &a.model[i]);
}

static void drop(uint32_t at, uint32_t n) {
  MUST(madvise(area_page(&a, at), (size_t)n * PAGE, MADV_DONTNEED));
  for (uint32_t i = at; i < at + n; i++) a.model[i].generation = a.model[i].stamp = 0;
}

static void free_and_reuse(struct rng* r, uint32_t at, uint32_t n) {
  for (uint32_t i = at; i < at + n; i++)
    if (a.model[i].stamp) page_write(area_page(&a, i), &a.model[i]);
  MUST(madvise(area_page(&a, at), (size_t)n * PAGE, MADV_FREE));
  for (uint32_t i = at; i < at + n; i++) freed[i] = true;
  for (uint32_t i = at; i < at + n; i++) {
    uint32_t kind = rng_below(r, 3);
    if (kind == 0) check_freed(i);
    if (kind == 1) {  // one word: it must stick, the rest is as it was or zeros
      a.model[i].stamp = 1;
      *(volatile uint64_t*)area_page(&a, i) = page_stamp(&a.model[i]);
    }
  }
  for (uint32_t i = at; i < at + n; i++) check_freed(i);
  for (uint32_t i = at; i < at + n; i++) {
    page_write(area_page(&a, i), &a.model[i]);
    freed[i] = false;
  }
}

static void lock_and_populate(uint32_t at, uint32_t n) {
  char* from = area_page(&a, at);
  size_t length = (size_t)n * PAGE;
  MUST(madvise(from, length, MADV_POPULATE_READ));
  MUST(madvise(from, length, MADV_POPULATE_WRITE));
  for (uint32_t i = at; i < at + n; i++) check(i);
  if (mlock(from, length)) return;  // no right to lock here
  for (uint32_t i = at; i < at + n; i++) page_touch(area_page(&a, i), &a.model[i]);
  MUST(munlock(from, length));
}

static void step(struct rng* r) {
  uint32_t n = 1 + rng_below(r, a.pages / 8), at = rng_below(r, a.pages - n),
           kind = rng_below(r, mode_is("lock") ? 8 : 7);
  switch (kind) {
    case 0: drop(at, n); break;
    case 1: free_and_reuse(r, at, n); break;
    case 2: protect_and_read(at, n); break;
    case 3: protect_and_write(at, n); break;
    case 4:  // dropped and used again at once
      drop(at, n);
      for (uint32_t i = at; i < at + n; i += 2) page_touch(area_page(&a, i), &a.model[i]);
      break;
    case 5:
      drop(at, n);
      drop(at + n / 2, n - n / 2);
      for (uint32_t i = at; i < at + n; i++) page_write(area_page(&a, i), &a.model[i]);
      break;
    case 6:
      MUST(madvise(area_page(&a, at), (size_t)n * PAGE, MADV_WILLNEED));
      madvise(area_page(&a, at), (size_t)n * PAGE, MADV_COLD);
      break;
    default: lock_and_populate(at, n);
  }
  for (uint32_t i = at; i < at + n; i++) check(i);
  area_churn(&a, r, 64);
}

int main(int argc, char** argv) {
  parse_options(argc, argv);
  a = area_make(opt.pages, 0);
  freed = calloc(opt.pages, sizeof(bool));
  struct sigaction action = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};
  MUST(sigaction(SIGSEGV, &action, NULL));
  area_fill(&a);
  struct rng r = rng_make(0);
  ready();
  uint32_t round = 0;
  for (; more(round); round++)
    for (int i = 0; i < 24; i++) step(&r);
  hold();
  done(area_sum(0, &a), round);
  return 0;
}
