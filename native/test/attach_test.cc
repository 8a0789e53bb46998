// Attach and detach: the target is left as it was, whatever it was doing, and wherever an attach fails.
#include "attach/attach.h"

#include <grp.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <cerrno>
#include <cstddef>
#include <thread>

#include "check.h"
#include "target.h"

using namespace leap;
using test::checkSame;
using test::idle;
using test::Shared;
using test::sleepMs;
using test::Target;

namespace {

// Attaches, holds for a moment, detaches; the target must do on what it was doing, and end with 0.
void attachWhile(Target& target, char state, bool ends = true) {
  target.awaitReady();
  target.awaitState(state);
  sleepMs(20);
  const std::string before = test::snapshot(target.pid());
  for (int i = 0; i < 3; i++) {
    Attached attached = attach(target.pid(), {});
    CHECK(attached.uffd >= 0 && attached.pidfd >= 0 && attached.targetFd >= 900);
    sleepMs(5);
    detach(attached);
    CHECK(attached.uffd == -1 && attached.pidfd == -1);
  }
  target.awaitState(state);
  checkSame(before, target.pid());
  target->stop = 1;
  if (ends) CHECK_EQUAL(target.join(), 0);
}

}  // namespace

TEST(sleeping_target_is_left_as_it_was) {
  Target target(idle);
  attachWhile(target, 'S');
}

TEST(epoll_wait_goes_on) {
  Target target([](Shared& shared) {
    const int poll = epoll_create1(0);
    shared.ready = 1;
    epoll_event event;
    for (int i = 0; i < 1000; i++) {
      if (epoll_wait(poll, &event, 1, 300) != 0) return errno == EINTR ? 4 : 5;
      if (shared.stop) return 0;
    }
    return 6;
  });
  attachWhile(target, 'S');
}

TEST(endless_epoll_wait_goes_on_without_eintr) {
  Target target([](Shared& shared) {
    const int poll = epoll_create1(0);
    shared.ready = 1;
    epoll_event event;
    epoll_wait(poll, &event, 1, -1);
    return 4;
  });
  attachWhile(target, 'S', false);
  sleepMs(20);
  CHECK(waitpid(target.pid(), nullptr, WNOHANG) == 0);
}

TEST(sigtimedwait_goes_on) {
  Target target([](Shared& shared) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    shared.ready = 1;
    return sigwaitinfo(&set, nullptr) == SIGUSR1 ? 0 : 4;
  });
  attachWhile(target, 'S', false);
  kill(target.pid(), SIGUSR1);
  CHECK_EQUAL(target.join(), 0);
}

TEST(nanosleep_ends_in_time) {
  Target target([](Shared& shared) {
    timespec start, end, rest{};
    const timespec pause{1, 0};
    clock_gettime(CLOCK_MONOTONIC, &start);
    shared.ready = 1;
    const int result = nanosleep(&pause, &rest);
    clock_gettime(CLOCK_MONOTONIC, &end);
    const double took =
        static_cast<double>(end.tv_sec - start.tv_sec) + static_cast<double>(end.tv_nsec - start.tv_nsec) * 1e-9;
    return result != 0 ? 4 : took < 0.99 || took > 1.3 ? 5 : 0;
  });
  attachWhile(target, 'S');
}

TEST(futex_wait_goes_on) {
  Target target([](Shared& shared) {
    shared.ready = 1;
    static int word = 0;
    const timespec pause{1, 0};
    const long result = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &pause, nullptr, 0);
    return result == -1 && errno == ETIMEDOUT ? 0 : 4;
  });
  attachWhile(target, 'S');
}

TEST(ppoll_with_its_own_mask_keeps_the_mask) {
  Target target([](Shared& shared) {
    sigset_t blocked, none;
    sigemptyset(&none);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, nullptr);
    signal(SIGUSR1, [](int) {});
    shared.ready = 1;
    if (ppoll(nullptr, 0, nullptr, &none) != -1 || errno != EINTR) return 4;
    sigset_t now;
    sigprocmask(SIG_BLOCK, nullptr, &now);
    return sigismember(&now, SIGUSR1) ? 0 : 5;
  });
  attachWhile(target, 'S', false);
  CHECK(waitpid(target.pid(), nullptr, WNOHANG) == 0);
  kill(target.pid(), SIGUSR1);
  CHECK_EQUAL(target.join(), 0);
}

TEST(computing_target_keeps_its_registers) {
  Target target([](Shared& shared) {
    double sum = 0;
    shared.ready = 1;
    for (int i = 0; !shared.stop; i++) {
      double term = 1;
      for (int k = 1; k < 50; k++) term = term * 0.5 + static_cast<double>(k) * 0.25;
      if (i == 0) sum = term;
      if (term != sum) return 4;
    }
    return 0;
  });
  attachWhile(target, 'R');
}

TEST(stopped_target_stays_stopped_and_continues) {
  Target target(idle);
  target.awaitReady();
  kill(target.pid(), SIGSTOP);
  attachWhile(target, 'T', false);
  kill(target.pid(), SIGCONT);
  CHECK_EQUAL(target.join(), 0);
}

TEST(stop_signal_while_attached_is_obeyed) {
  Target target(idle);
  target.awaitReady();
  Attached attached = attach(target.pid(), {});
  kill(target.pid(), SIGSTOP);
  target.awaitState('T');
  detach(attached);
  target.awaitState('T');
  kill(target.pid(), SIGCONT);
  target->stop = 1;
  CHECK_EQUAL(target.join(), 0);
}

TEST(many_threads) {
  Target target([](Shared& shared) {
    std::thread threads[6];
    for (std::thread& thread : threads) {
      thread = std::thread([&shared] {
        while (!shared.stop) {
          shared.counter++;
          if (shared.counter % 64 == 0) sleepMs(1);
        }
      });
    }
    shared.ready = 1;
    for (std::thread& thread : threads) thread.join();
    return 0;
  });
  attachWhile(target, 'S');
}

TEST(first_thread_has_exited) {
  Target target([](Shared& shared) {
    std::thread([&shared] {
      sleepMs(20);
      shared.ready = 1;
      while (!shared.stop) sleepMs(1);
      _exit(0);
    }).detach();
    syscall(SYS_exit, 0);
    return 4;
  });
  target.awaitReady();
  target.awaitState('Z');
  const std::string before = test::snapshot(target.pid());
  Attached attached = attach(target.pid(), {});
  detach(attached);
  checkSame(before, target.pid());
  target->stop = 1;
  CHECK_EQUAL(target.join(), 0);
}

TEST(heavy_signals) {
  Target target([](Shared& shared) {
    static Shared* seen;
    seen = &shared;
    signal(SIGUSR1, [](int) { seen->counter++; });
    shared.ready = 1;
    while (!shared.stop) sleepMs(1);
    return 0;
  });
  target.awaitReady();
  {
    const test::Repeating sender([&] { kill(target.pid(), SIGUSR1); }, 50);
    for (int i = 0; i < 20; i++) {
      Attached attached = attach(target.pid(), {});
      detach(attached);
    }
  }
  CHECK(target->counter > 0);
  target->stop = 1;
  CHECK_EQUAL(target.join(), 0);
}

TEST(signal_handlers_are_kept_also_for_traps) {
  Target target([](Shared& shared) {
    static Shared* seen;
    seen = &shared;
    signal(SIGTRAP, [](int) { seen->counter++; });
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTRAP);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    shared.ready = 1;
    while (!shared.stop) sleepMs(1);
    raise(SIGTRAP);
    if (shared.counter != 0) return 4;
    sigprocmask(SIG_UNBLOCK, &set, nullptr);
    return shared.counter == 1 ? 0 : 5;
  });
  attachWhile(target, 'S');
}

TEST(seccomp_filter_that_kills) {
  Target target([](Shared& shared) {
    sock_filter filter[] = {
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
        {BPF_JMP | BPF_JEQ | BPF_K, 3, 0, SYS_clock_nanosleep},
        {BPF_JMP | BPF_JEQ | BPF_K, 2, 0, SYS_nanosleep},
        {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, SYS_restart_syscall},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_exit_group},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS},
    };
    const sock_fprog program{static_cast<unsigned short>(sizeof filter / sizeof *filter), filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 4;
    shared.ready = 1;
    while (!shared.stop) sleepMs(1);
    syscall(SYS_exit_group, 0);  // not what a sanitizer makes of _exit
    return 5;
  });
  attachWhile(target, 'S');
}

// Another thread installs the filter for all threads while the first one stands still.
static Shared* filtering = nullptr;
TEST(seccomp_filter_installed_during_the_attach) {
  Target target([](Shared& shared) {
    std::thread([&shared] {
      while (!shared.go) sleepMs(1);
      sock_filter filter[] = {
          {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
          {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, SYS_socketpair},
          {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_madvise},
          {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS},
          {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
      };
      const sock_fprog program{static_cast<unsigned short>(sizeof filter / sizeof *filter), filter};
      prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
      shared.result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) ? 4 : 1;
      while (true) sleepMs(1000);
    }).detach();
    shared.ready = 1;
    while (!shared.stop) sleepMs(1);
    syscall(SYS_exit_group, 0);  // not what a sanitizer makes of _exit
    return 5;
  });
  target.awaitReady();
  filtering = target.operator->();
  atStep = [](int step) {
    if (step != 1) return;
    filtering->go = 1;
    test::waitFor([] { return filtering->result != 0; });
  };
  Attached attached = attach(target.pid(), {});
  atStep = nullptr;
  CHECK_EQUAL(static_cast<int>(target->result), 1);
  detach(attached);
  target->stop = 1;
  CHECK_EQUAL(target.join(), 0);
}

// systemd's MemoryDenyWriteExecute: memory cannot become executable later.
TEST(target_that_may_not_make_memory_executable) {
  constexpr int kSetMdwe = 65, kRefuseExecGain = 1;  // Linux 6.3
  Target target([](Shared& shared) {
    if (prctl(kSetMdwe, kRefuseExecGain, 0, 0, 0)) shared.result = 77;
    return idle(shared);
  });
  target.awaitReady();
  if (target->result == 77) throw check::Skip("no PR_SET_MDWE (Linux 6.3)");
  attachWhile(target, 'S');
}

// In a restartable sequence until told to stop. Just before its commit, the kernel must still know of the sequence: if
// it does not, a preemption since would not have aborted it. Returns whether it did.
static bool commitInSequence(Shared& shared) {
  auto* registered = reinterpret_cast<volatile uint64_t*>(static_cast<char*>(__builtin_thread_pointer()) +
                                                          __rseq_offset + offsetof(struct rseq, rseq_cs));
  uint64_t seen = 0, own = 0;
  asm volatile(
      ".pushsection __rseq_cs, \"aw\"\n"
      ".balign 32\n"
      "10: .long 0, 0\n"
      ".quad 20f, 30f - 20f, 40f\n"
      ".popsection\n"
      "jmp 15f\n"
      ".byte 0x0f, 0xb9, 0x3d\n"  // ud1: the signature before the abort handler is no code
      ".long 0x53053053\n"
      "40: lock incq %[aborts]\n"
      "15: leaq 10b(%%rip), %[own]\n"
      "movq %[own], %[registered]\n"
      "20: movl $1, %[ready]\n"
      "25: pause\n"
      "cmpl $0, %[stop]\n"
      "je 25b\n"
      "movq %[registered], %[seen]\n"
      "30:\n"
      : [registered] "+m"(*registered), [seen] "+r"(seen), [own] "+r"(own),
        [aborts] "+m"(*reinterpret_cast<long*>(&shared.counter)), [ready] "+m"(*reinterpret_cast<int*>(&shared.ready))
      : [stop] "m"(*reinterpret_cast<int*>(&shared.stop))
      : "memory", "cc");
  *registered = 0;
  return seen == own;
}

TEST(restartable_sequence_is_aborted) {
  if (__rseq_size == 0) throw check::Skip("no rseq in this kernel or C library");
  Target target([](Shared& shared) { return commitInSequence(shared) ? 0 : 4; });
  attachWhile(target, 'R');
}

// Wine's way to catch system calls: outside a range, with the selector on, they become SIGSYS.
TEST(syscall_user_dispatch_is_suspended_and_resumed) {
  Target target([](Shared& shared) {
    static volatile char selector = SYSCALL_DISPATCH_FILTER_ALLOW;
    static volatile int caught = 0;
    struct sigaction action {};
    action.sa_handler = [](int) {
      selector = SYSCALL_DISPATCH_FILTER_ALLOW;
      caught = caught + 1;
    };
    sigaction(SIGSYS, &action, nullptr);
    if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &selector)) return 77;
    selector = SYSCALL_DISPATCH_FILTER_BLOCK;
    shared.ready = 1;
    while (!shared.stop) {}
    if (caught != 0) return 4;
    syscall(SYS_getppid);
    return caught == 1 ? 0 : 5;
  });
  attachWhile(target, 'R');
}

TEST(unprivileged_target) {
  Target target([](Shared& shared) {
    if (setgroups(0, nullptr) || setgid(65534) || setuid(65534)) return 4;
    prctl(PR_SET_DUMPABLE, 1);
    return idle(shared);
  });
  attachWhile(target, 'S');
}

TEST(descriptor_numbers_are_unchanged) {
  Target target([](Shared& shared) {
    shared.ready = 1;
    while (!shared.go) sleepMs(1);
    const int fd = open("/dev/null", O_RDONLY);
    close(fd);
    shared.result = fd;
    return idle(shared);
  });
  target.awaitReady();
  std::set<int> taken;
  for (int fd = 0; fd < 64; fd++) {
    if (access(proc::path(target.pid(), "fd/" + std::to_string(fd)).c_str(), F_OK) == 0 || errno != ENOENT)
      taken.insert(fd);
  }
  Attached attached = attach(target.pid(), {});
  target->go = 1;
  CHECK(test::waitFor([&] { return target->result != 0; }));
  int lowest = 0;
  while (access(proc::path(target.pid(), "fd/" + std::to_string(lowest)).c_str(), F_OK) == 0) lowest++;
  CHECK_EQUAL(static_cast<int>(target->result), lowest);
  detach(attached);
}

TEST(small_descriptor_limit) {
  Target target([](Shared& shared) {
    const rlimit limit{32, 32};
    setrlimit(RLIMIT_NOFILE, &limit);
    return idle(shared);
  });
  target.awaitReady();
  const std::string before = test::snapshot(target.pid());
  Attached attached = attach(target.pid(), {});
  CHECK(attached.targetFd < 32);
  detach(attached);
  checkSame(before, target.pid());
}

TEST(helper_is_invisible_to_wait) {
  Target target([](Shared& shared) {
    shared.ready = 1;
    while (!shared.go) sleepMs(1);
    int status;
    errno = 0;
    if (waitpid(-1, &status, WNOHANG) != -1 || errno != ECHILD) return 4;
    const pid_t child = fork();
    if (child == 0) _exit(7);
    if (waitpid(-1, &status, 0) != child || WEXITSTATUS(status) != 7) return 5;
    if (waitpid(-1, &status, 0) != -1 || errno != ECHILD) return 6;
    shared.ready = 2;
    while (!shared.stop) sleepMs(1);
    return 0;
  });
  target.awaitReady();
  Attached attached = attach(target.pid(), {});
  std::string comm;
  CHECK(proc::readAll(proc::path(attached.helper->pid(), "comm"), &comm));
  CHECK(comm == "leap-helper\n");
  int fds = 0;
  DIR* dir = opendir(proc::path(attached.helper->pid(), "fd").c_str());
  while (const dirent* entry = readdir(dir)) fds += entry->d_name[0] != '.';
  closedir(dir);
  CHECK_EQUAL(fds, 3);  // the userfaultfd, a pidfd of itself, an eventfd
  target->go = 1;
  target.awaitReady(2);
  detach(attached);
  target->stop = 1;
  CHECK_EQUAL(target.join(), 0);
}

int main(int argc, char** argv) { return check::run(argc, argv); }
