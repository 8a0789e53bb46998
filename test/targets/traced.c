// A process that a debugger holds: the parent traces the child, whose pid is printed as READY. The line `go` ends both.
#include "target.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

int main(int argc, char** argv) {
  parse_options(argc, argv);
  struct area a = area_make(opt.pages, 0);
  area_fill(&a);
  pid_t pid = MUST(fork());
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) pause();
  }
  MUST(ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_EXITKILL));
  say("READY %d\n", pid);
  await("go");
  kill(pid, SIGKILL);
  int status;
  MUST(waitpid(pid, &status, 0));
  done(area_sum(0, &a), 0);
  return 0;
}
