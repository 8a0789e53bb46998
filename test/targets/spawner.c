// Other ways to make processes: vfork, posix_spawn, fork and exec, system, popen. Every wait() must tell the truth,
// each child must raise SIGCHLD exactly once, and a process with no children must be told so (ECHILD), whatever else
// lives in its memory. mode=exec: ends by executing itself (mode=execed).   mode=exec-thread: another thread does that
// while all are faulting.
#include "target.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

extern char** environ;
static struct area a;
static char** own_argv;

// The child has ended: its status, one SIGCHLD from it, and no other child.
static void expect(const char* what, pid_t pid, int want) {
  int status = -1;
  if (MUST(waitpid(pid, &status, 0)) != pid) fail(what, pid, 0, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != want) fail(what, pid, status, want);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  siginfo_t info;
  struct timespec second = {1, 0}, none = {0, 0};
  if (sigtimedwait(&set, &info, &second) != SIGCHLD || info.si_pid != pid)
    fail("SIGCHLD of the child", pid, info.si_pid, pid);
  if (sigtimedwait(&set, &info, &none) != -1) fail("SIGCHLD of a stranger", pid, info.si_pid, 0);
  if (waitpid(-1, &status, WNOHANG) != -1 || errno != ECHILD) fail("a child nobody made", pid, errno, ECHILD);
}

static void by_vfork(struct rng* r) {
  volatile uint32_t at = rng_below(r, a.pages);  // the child borrows our memory: what it writes, we see
  int code = rng_below(r, 100);
  pid_t pid = vfork();
  if (pid == 0) {
    page_write(area_page(&a, at), &a.model[at]);
    _exit(code);
  }
  page_check("written by the vfork child", area_page(&a, at), &a.model[at]);
  expect("vfork", pid, code);
  pid = vfork();
  if (pid == 0) {
    execl("/bin/sh", "sh", "-c", "exit 11", NULL);
    _exit(99);
  }
  expect("vfork and exec", pid, 11);
}

static void by_spawn(void) {
  char* argv[] = {"sh", "-c", "exit 12", NULL};
  pid_t pid;
  if (posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ)) fail_errno("posix_spawn");
  expect("posix_spawn", pid, 12);
}

static void by_fork_and_exec(struct rng* r) {
  pid_t pid = MUST(fork());
  if (pid == 0) {
    area_churn(&a, r, 8);
    execl("/bin/sh", "sh", "-c", "exit 13", NULL);
    _exit(99);
  }
  area_churn(&a, r, 32);
  expect("fork and exec", pid, 13);
}

// Bytes of a page through another process and back.
static void by_pipes(struct rng* r) {
  uint32_t at = rng_below(r, a.pages);
  int to[2], from[2];
  MUST(pipe2(to, O_CLOEXEC)), MUST(pipe2(from, O_CLOEXEC));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, to[0], 0);
  posix_spawn_file_actions_adddup2(&actions, from[1], 1);
  char* argv[] = {"cat", NULL};
  pid_t pid;
  if (posix_spawnp(&pid, "cat", &actions, NULL, argv, environ)) fail_errno("posix_spawnp cat");
  posix_spawn_file_actions_destroy(&actions);
  close(to[0]), close(from[1]);
  if (MUST(write(to[1], area_page(&a, at), PAGE)) != PAGE) fail("write to cat", at, 0, 0);
  close(to[1]);
  char back[PAGE];
  for (size_t n = 0; n < PAGE;) {
    ssize_t got = MUST(read(from[0], back + n, PAGE - n));
    if (got == 0) fail("cat ended early", at, n, PAGE);
    n += got;
  }
  close(from[0]);
  page_check("through cat", back, &a.model[at]);
  expect("cat", pid, 0);
}

static _Noreturn void exec_self(void) {
  char seed[40], pages[40], rounds[40];
  snprintf(seed, sizeof seed, "seed=%lu", opt.seed);
  snprintf(pages, sizeof pages, "pages=%u", opt.pages);
  snprintf(rounds, sizeof rounds, "rounds=%u", opt.rounds);
  char* argv[] = {own_argv[0], seed, pages, rounds, "mode=execed", NULL};
  execv("/proc/self/exe", argv);
  fail_errno("execv");
}

static void* churn_for_ever(void* arg) {
  struct rng r = rng_make((uintptr_t)arg);
  struct area mine = area_make(opt.pages / 4, 5000000 + (uintptr_t)arg * 100000);
  area_fill(&mine);
  for (uint32_t i = 0; i < 1000000; i++) area_churn(&mine, &r, 256);
  return NULL;
}

static void* exec_from_here(void* arg) {
  struct timespec wait = {0, 100000000};
  nanosleep(&wait, NULL);
  (void)arg;
  exec_self();
}

int main(int argc, char** argv) {
  parse_options(argc, argv);
  own_argv = argv;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  MUST(sigprocmask(SIG_BLOCK, &set, NULL));
  a = area_make(opt.pages, 0);
  area_fill(&a);
  struct rng r = rng_make(0);
  if (mode_is("execed")) {  // the second life: nobody pages us, nobody waits for our READY
    say("EXECED\n");
    for (uint32_t i = 0; i < opt.rounds; i++) area_churn(&a, &r, opt.pages);
    done(area_sum(0, &a), opt.rounds);
    return 0;
  }
  ready();
  uint32_t round = 0;
  for (; more(round); round++) {
    by_vfork(&r);
    area_churn(&a, &r, opt.pages / 2);
    by_spawn();
    by_fork_and_exec(&r);
    area_churn(&a, &r, opt.pages / 2);
    by_pipes(&r);
  }
  if (mode_is("exec")) exec_self();
  if (mode_is("exec-thread")) {
    pthread_t t;
    for (uintptr_t i = 1; i <= 3; i++) pthread_create(&t, NULL, churn_for_ever, (void*)i);
    pthread_create(&t, NULL, exec_from_here, NULL);
    churn_for_ever((void*)9);
  }
  hold();
  done(area_sum(0, &a), round);
  return 0;
}
