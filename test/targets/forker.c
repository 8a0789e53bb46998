// fork: parent and children read and write the same stored pages afterwards, each its own copy, and check them;
// children fork again. mode=outlive: the parent exits at once and the child goes on alone.   mode=wipe: areas under
// MADV_WIPEONFORK and MADV_DONTFORK as well. mode=wipe-late: the same, marked so only when the work begins. mode=many:
// children in numbers, short lives.
#include "target.h"

#include <sys/wait.h>

static struct area a, wiped, kept_back;

static bool wipes(void) { return mode_is("wipe") || mode_is("wipe-late"); }

static void mark(void) {
  MUST(madvise(wiped.base, (size_t)wiped.pages * PAGE, MADV_WIPEONFORK));
  MUST(madvise(kept_back.base, (size_t)kept_back.pages * PAGE, MADV_DONTFORK));
}

static uint64_t child_work(uint64_t stream, int depth);

struct child {
  pid_t pid;
  int result;
};

static struct child start(uint64_t stream, int depth) {
  int ends[2];
  MUST(pipe(ends));
  pid_t pid = MUST(fork());
  if (pid == 0) {
    close(ends[0]);
    uint64_t sum = child_work(stream, depth);
    if (write(ends[1], &sum, sizeof sum) != sizeof sum) _exit(5);
    _exit(0);
  }
  close(ends[1]);
  return (struct child){pid, ends[0]};
}

static uint64_t finish(struct child c) {
  uint64_t sum = 0;
  int status = 0;
  if (read(c.result, &sum, sizeof sum) != sizeof sum) fail("child's result", c.pid, 0, 0);
  close(c.result);
  if (MUST(waitpid(c.pid, &status, 0)) != c.pid || status != 0) fail("child's status", c.pid, status, 0);
  return sum;
}

static uint64_t child_work(uint64_t stream, int depth) {
  struct rng r = rng_make(stream);
  if (wipes()) {
    for (uint32_t i = 0; i < wiped.pages; i++) wiped.model[i].generation = wiped.model[i].stamp = 0;
    area_check("wiped on fork", &wiped);
    area_churn(&wiped, &r, wiped.pages);
  }
  uint64_t below = 0;
  struct child c = {0};
  area_churn(&a, &r, opt.pages / 4);
  if (depth > 0) c = start(stream * 31 + 7, depth - 1);
  area_churn(&a, &r, opt.pages / 2);
  if (depth > 0) below = finish(c);
  return area_sum(below, &a);
}

static uint64_t round_of_forks(struct rng* r, uint32_t round) {
  uint64_t sum = 0, stream = 1000 + round * 100;
  if (mode_is("many")) {
    struct child c[5];
    for (int k = 0; k < 5; k++) c[k] = start(stream + k, 0);
    for (int k = 0; k < 5; k++) sum = fold(sum, finish(c[k]));
    return sum;
  }
  struct child first = start(stream, 2);
  area_churn(&a, r, opt.pages / 2);
  struct child second = start(stream + 1, 0);
  area_churn(&a, r, opt.pages / 2);
  if (wipes()) {
    area_churn(&wiped, r, wiped.pages);
    area_churn(&kept_back, r, kept_back.pages);
  }
  sum = fold(finish(first), finish(second));
  area_check("parent after its children", &a);
  return sum;
}

static void outlive(void) {
  struct rng r = rng_make(1);
  pid_t pid = MUST(fork());
  if (pid != 0) {
    area_churn(&a, &r, opt.pages / 4);
    done(0, 0);
    _exit(0);
  }
  r = rng_make(2);
  for (uint32_t round = 0; round < opt.rounds; round++) area_churn(&a, &r, opt.pages);
  say("CHILD %016lx\n", area_sum(0, &a));
  _exit(0);
}

int main(int argc, char** argv) {
  parse_options(argc, argv);
  a = area_make(opt.pages, 0);
  area_fill(&a);
  if (wipes()) {
    wiped = area_make(opt.pages / 4, 1000000);
    kept_back = area_make(opt.pages / 4, 2000000);
    area_fill(&wiped);
    area_fill(&kept_back);
  }
  if (mode_is("wipe")) mark();
  struct rng r = rng_make(0);
  ready();
  if (mode_is("wipe-late")) mark();
  if (mode_is("outlive")) outlive();
  uint32_t round = 0;
  uint64_t sum = 0;
  for (; more(round); round++) sum = fold(sum, round_of_forks(&r, round));
  hold();
  sum = area_sum(sum, &a);
  if (wipes()) sum = area_sum(area_sum(sum, &wiped), &kept_back);
  done(sum, round);
  return 0;
}
