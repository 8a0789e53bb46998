// A process of another user, without capabilities, and not dumpable as such processes are. mode=late: it drops its
// rights only when told to go.
#include "target.h"

#include <grp.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { NOBODY = 65534 };

static void drop_rights(void) {
  if (getuid() != 0) return;
  MUST(setgroups(0, NULL));
  MUST(setresgid(NOBODY, NOBODY, NOBODY));
  MUST(setresuid(NOBODY, NOBODY, NOBODY));
  MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

int main(int argc, char** argv) {
  parse_options(argc, argv);
  struct area a = area_make(opt.pages, 0);
  area_fill(&a);
  struct rng r = rng_make(0);
  if (!mode_is("late")) drop_rights();
  ready();
  if (mode_is("late")) drop_rights();
  uint32_t round = 0;
  for (; more(round); round++) {
    area_churn(&a, &r, opt.pages);
    // system calls on stored pages: a userfaultfd made for user mode alone would fail these with EFAULT
    int ends[2];
    MUST(pipe(ends));
    for (uint32_t i = 0; i < 16; i++) {
      uint32_t from = rng_below(&r, a.pages), to = rng_below(&r, a.pages);
      if (MUST(write(ends[1], area_page(&a, from), PAGE)) != PAGE ||
          MUST(read(ends[0], area_page(&a, to), PAGE)) != PAGE)
        fail("pipe", from, 0, 0);
      page_check("through a pipe", area_page(&a, to), &a.model[from]);
      page_write(area_page(&a, to), &a.model[to]);
    }
    close(ends[0]), close(ends[1]);
    pid_t pid = MUST(fork());
    if (pid == 0) {
      area_check("in the child", &a);
      area_churn(&a, &r, 64);
      _exit(0);
    }
    int status = 0;
    MUST(waitpid(pid, &status, 0));
    if (status) fail("child", pid, status, 0);
  }
  hold();
  done(area_sum(0, &a), round);
  return 0;
}
