// Under a filter that kills the process for every system call it does not know: the list is what this program needs,
// and nothing a pager would inject.
#include "target.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static void lock_down(void) {
  static const int known[] = {SYS_read, SYS_write, SYS_poll,         SYS_exit,           SYS_exit_group,
                              SYS_brk,  SYS_futex, SYS_rt_sigreturn, SYS_restart_syscall};
  enum { N = sizeof known / sizeof known[0] };
  struct sock_filter filter[N + 4];
  int n = 0;
  filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (int i = 0; i < N; i++)
    filter[n++] =
        (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)known[i], (unsigned char)(N - i), 0);
  filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
  filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog program = {.len = n, .filter = filter};
  MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

int main(int argc, char** argv) {
  parse_options(argc, argv);
  struct area a = area_make(opt.pages, 0);
  area_fill(&a);
  struct rng r = rng_make(0);
  int pid = getpid();  // not allowed any more under the filter
  lock_down();
  say("READY %d\n", pid);
  await("go");
  uint32_t round = 0;
  for (; more(round); round++) area_churn(&a, &r, opt.pages);
  hold();
  done(area_sum(0, &a), round);
  return 0;
}
