// Attaches that fail or are refused, and endings out of the ordinary: the target is whole afterwards, nothing of ours
// stays.
#include <elf.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <thread>

#include "attach/attach.h"
#include "check.h"
#include "target.h"
#include "target/tracee.h"

using namespace leap;
using test::checkSame;
using test::idle;
using test::Shared;
using test::sleepMs;
using test::Target;

namespace {

std::string kindOf(pid_t pid) {
  try {
    Attached attached = attach(pid, {});
    detach(attached);
  } catch (const Error& error) {
    if (std::string(error.what()).find('\n') != std::string::npos) return "more than one line";
    return wordOf(error.kind);
  }
  return "attached";
}

}  // namespace

TEST(failure_at_every_step_leaves_the_target_whole) {
  Target target(idle);
  target.awaitReady();
  {
    Attached attached = attach(target.pid(), {});
    detach(attached);
  }
  const int steps = stepsPassed;
  CHECK(steps >= 10);
  const std::string before = test::snapshot(target.pid());
  for (int k = 1; k <= steps; k++) {
    failAtStep = k;
    CHECK(kindOf(target.pid()) == "injected");
    checkSame(before, target.pid());
  }
  failAtStep = 0;
  CHECK(kindOf(target.pid()) == "attached");
  checkSame(before, target.pid());
  target->stop = 1;
  CHECK_EQUAL(target.join(), 0);
}

TEST(no_descriptor_of_ours_is_left_open) {
  Target target(idle);
  target.awaitReady();
  const auto count = [] {
    int n = 0;
    DIR* dir = opendir("/proc/self/fd");
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
  };
  const int before = count();
  for (int k = 0; k <= 14; k++) {
    failAtStep = k;
    kindOf(target.pid());
  }
  failAtStep = 0;
  CHECK_EQUAL(count(), before);
}

TEST(refusals_have_their_kinds) {
  CHECK(kindOf(0) == "no-process");
  CHECK(kindOf(-5) == "no-process");
  CHECK(kindOf(4194304 + 5) == "no-process");
  CHECK(kindOf(getpid()) == "self");
  CHECK(kindOf(2) == "kernel-thread" || kindOf(2) == "no-process");
  {
    const pid_t zombie = fork();
    if (zombie == 0) _exit(0);
    test::waitFor([&] { return proc::state(zombie, zombie) == 'Z'; });
    const std::string kind = kindOf(zombie);
    waitpid(zombie, nullptr, 0);
    CHECK(kind == "zombie");
  }
  Target target(idle);
  target.awaitReady();
  {
    const std::string before = test::snapshot(target.pid());
    Attached attached = attach(target.pid(), {});
    CHECK(kindOf(target.pid()) == "already-managed");
    CHECK(kindOf(attached.helper->pid()) == "helper");
    detach(attached);
    checkSame(before, target.pid());
  }
  {
    Target debugger([&](Shared& shared) {
      if (ptrace(PTRACE_SEIZE, target.pid(), 0, 0)) return 4;
      return idle(shared);
    });
    debugger.awaitReady();
    CHECK(kindOf(target.pid()) == "traced");
    debugger->stop = 1;
    CHECK_EQUAL(debugger.join(), 0);
  }
  CHECK(kindOf(target.pid()) == "attached");
}

// In a program that has lost rights for good: the kind of the refusal.
static std::string kindWithout(const std::function<bool()>& giveUp, pid_t pid) {
  char* kind = static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  Target attacher([&](Shared&) {
    strncpy(kind, giveUp() ? kindOf(pid).c_str() : "skip", 100);
    return 0;
  });
  attacher.join();
  const std::string result = kind;
  munmap(kind, 4096);
  if (result == "skip") throw check::Skip("cannot give up rights");
  return result;
}

TEST(attacher_without_rights) {
  Target target(idle);
  target.awaitReady();
  const std::string before = test::snapshot(target.pid());
  CHECK(kindWithout([] { return setgroups(0, nullptr) == 0 && setgid(65534) == 0 && setuid(65534) == 0; },
                    target.pid()) == "not-permitted");
  checkSame(before, target.pid());
}

static int filtered(Shared& shared) {
  sock_filter filter[] = {
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_mmap},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
  };
  const sock_fprog program{static_cast<unsigned short>(sizeof filter / sizeof *filter), filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 4;
  shared.ready = 1;
  const timespec pause{0, 300000000};
  return nanosleep(&pause, nullptr) ? 5 : 0;
}

static bool dropAdmin() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  if (syscall(SYS_capget, &header, data)) return false;
  for (auto* set : {&data[0].effective, &data[0].permitted, &data[0].inheritable}) *set &= ~(1u << CAP_SYS_ADMIN);
  return syscall(SYS_capset, &header, data) == 0;
}

// Without CAP_SYS_ADMIN a filter cannot be suspended: an attach to a filtered target is refused before it makes a
// single call in it.
TEST(filtered_target_and_no_right_to_suspend_the_filter) {
  Target target(filtered);
  target.awaitReady();
  target.awaitState('S');
  CHECK(kindWithout(dropAdmin, target.pid()) == "seccomp");
  CHECK_EQUAL(target.join(), 0);
}

// Neither does one that did not stop in time keep it standing, nor does the next attempt make a call.
TEST(filtered_target_that_is_late) {
  Target target(filtered);
  target.awaitReady();
  target.awaitState('S');
  Target attacher([&](Shared& shared) {
    if (!dropAdmin()) return 77;
    for (int i = 0; i < 50; i++) {
      try {
        const Tracee inNoTime(target.pid(), {0, 0, 0});
        return 4;
      } catch (const Error& error) {
        if (error.kind == ErrorKind::kTimeout) shared.counter++;
        if (error.kind != ErrorKind::kTimeout && error.kind != ErrorKind::kSeccomp) return 5;
      }
      if (i % 2 && !test::waitFor([] { return !releaseStragglers(); }, 500)) return 6;
    }
    std::string status;
    proc::readAll(proc::path(target.pid(), "status"), &status);
    return proc::statusField(status, "TracerPid") == "0" ? 0 : 7;
  });
  const int result = attacher.join();
  if (result == 77) throw check::Skip("cannot give up rights");
  CHECK_EQUAL(result, 0);
  CHECK_EQUAL(target.join(), 0);
}

TEST(target_at_its_limits) {
  for (const int resource : {RLIMIT_AS, RLIMIT_NOFILE}) {
    Target target([resource](Shared& shared) {
      rlimit limit;
      getrlimit(static_cast<__rlimit_resource>(resource), &limit);
      limit.rlim_cur = resource == RLIMIT_AS ? 4096 : 3;
      while (open("/dev/null", O_RDONLY) < 2) {}
      if (setrlimit(static_cast<__rlimit_resource>(resource), &limit)) return 4;
      return idle(shared);
    });
    target.awaitReady();
    const std::string before = test::snapshot(target.pid());
    CHECK(kindOf(target.pid()) == "limit");
    checkSame(before, target.pid());
    target->stop = 1;
    CHECK_EQUAL(target.join(), 0);
  }
}

// The parent of a vfork sleeps where no signal reaches it.
TEST(parent_in_vfork_cannot_be_stopped) {
  Target target([](Shared& shared) {
    static Shared* seen;
    seen = &shared;
    if (vfork() == 0) {
      seen->ready = 1;
      while (!seen->stop) sleepMs(1);
      _exit(0);
    }
    return 0;
  });
  target.awaitReady();
  target.awaitState('D');
  std::string kind;
  try {
    const Tracee tracee(target.pid(), {100, 100, 100});
  } catch (const Error& error) { kind = wordOf(error.kind); }
  CHECK(kind == "timeout");
  target->stop = 1;
  CHECK_EQUAL(target.join(), 0);
}

TEST(program_of_32_bits_is_refused) {
  // The smallest there is: header, one segment, `1: mov $29,%eax (pause); int $0x80; jmp 1b`.
  struct {
    Elf32_Ehdr header;
    Elf32_Phdr segment;
    uint8_t code[9];
  } program{};
  constexpr uint32_t kBase = 0x08048000;
  const uint8_t code[] = {0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7};
  memcpy(program.header.e_ident, ELFMAG "\1\1\1", 7);
  program.header.e_type = ET_EXEC;
  program.header.e_machine = EM_386;
  program.header.e_version = 1;
  program.header.e_entry = kBase + offsetof(decltype(program), code);
  program.header.e_phoff = sizeof program.header;
  program.header.e_ehsize = sizeof program.header;
  program.header.e_phentsize = sizeof program.segment;
  program.header.e_phnum = 1;
  program.segment = {PT_LOAD, 0, kBase, kBase, sizeof program, sizeof program, PF_R | PF_X, 4096};
  memcpy(program.code, code, sizeof code);
  const int file = static_cast<int>(syscall(SYS_memfd_create, "i386", 1u /* MFD_CLOEXEC */));
  CHECK(write(file, &program, sizeof program) == static_cast<ssize_t>(sizeof program));
  Target target([file](Shared&) {
    char* none[] = {nullptr};
    fexecve(file, none, none);
    return 9;
  });
  close(file);
  int status;
  const bool runs = test::waitFor(
      [&] {
        std::string comm;
        return proc::readAll(proc::path(target.pid(), "wchan"), &comm) && comm.find("pause") != std::string::npos;
      },
      500);
  if (!runs || waitpid(target.pid(), &status, WNOHANG) != 0) throw check::Skip("no 32-bit programs on this kernel");
  CHECK(kindOf(target.pid()) == "32-bit");
}

// A helper would be the first process of the new namespace, and its end the end of all forks of the target.
TEST(unshared_pid_namespace_is_refused) {
  Target target([](Shared& shared) {
    if (unshare(CLONE_NEWPID)) return 77;
    shared.ready = 1;
    while (!shared.go) sleepMs(1);
    const pid_t child = fork();
    if (child == 0) _exit(getpid() == 1 ? 0 : 5);
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child) return 4;
    return WEXITSTATUS(status);
  });
  if (!test::waitFor([&] { return target->ready == 1 || proc::state(target.pid(), target.pid()) == 'Z'; }) ||
      target->ready != 1)
    throw check::Skip("may not create a pid namespace");
  const std::string before = test::snapshot(target.pid());
  CHECK(kindOf(target.pid()) == "namespace");
  checkSame(before, target.pid());
  target->go = 1;
  CHECK_EQUAL(target.join(), 0);
}

TEST(thread_number_is_refused) {
  Target target([](Shared& shared) {
    std::thread thread([&shared] {
      shared.address = static_cast<uint64_t>(syscall(SYS_gettid));
      idle(shared);
    });
    thread.join();
    return 0;
  });
  target.awaitReady();
  CHECK(kindOf(static_cast<pid_t>(target->address)) == "no-process");
}

TEST(detach_tolerates_a_dead_target) {
  Target target(idle);
  target.awaitReady();
  Attached attached = attach(target.pid(), {});
  const pid_t helper = attached.helper->pid();
  target->stop = 1;
  CHECK_EQUAL(target.join(), 0);
  detach(attached);
  CHECK(test::waitFor([&] { return proc::state(helper, helper) == 0 || proc::state(helper, helper) == 'Z'; }));
}

TEST(detach_after_exec_touches_nothing) {
  Target target([](Shared& shared) {
    shared.ready = 1;
    while (!shared.go) sleepMs(1);
    execlp("sleep", "sleep", "5", nullptr);
    return 4;
  });
  target.awaitReady();
  Attached attached = attach(target.pid(), {});
  target->go = 1;
  CHECK(test::waitFor([&] {
    std::string comm;
    return proc::readAll(proc::path(target.pid(), "comm"), &comm) && comm == "sleep\n";
  }));
  target.awaitState('S');
  sleepMs(20);
  std::string before = test::snapshot(target.pid());
  before.erase(before.find("child "));
  detach(attached);
  // A child from before an exec counts as SIGCHLD whatever its exit signal was; `sleep` ignores that.
  CHECK(test::waitFor([&] { return test::firstDifference(before, test::snapshot(target.pid())).empty(); }, 500));
}

static int execSleep(Shared& shared) {
  shared.ready = 1;
  while (!shared.go) sleepMs(1);
  execlp("sleep", "sleep", "30", nullptr);
  return 4;
}

static void awaitSleep(Target& target) {
  CHECK(test::waitFor([&] {
    std::string comm;
    return proc::readAll(proc::path(target.pid(), "comm"), &comm) && comm == "sleep\n";
  }));
  target.awaitState('S');
}

TEST(exec_leaves_no_zombie_behind) {
  Target target(execSleep);
  target.awaitReady();
  Attached attached = attach(target.pid(), {});
  target->go = 1;
  awaitSleep(target);
  abandon(attached);
  CHECK(test::waitFor([&] { return proc::children(target.pid()).empty(); }, 500));
  CHECK(kindOf(target.pid()) == "attached");
}

// Nobody was there to reap the helper: the next attach does, for no page of the new program is stored.
TEST(zombie_from_before_an_exec_does_not_refuse_an_attach) {
  Target target(execSleep);
  target.awaitReady();
  Target pager([&](Shared& shared) {
    Attached attached = attach(target.pid(), {});
    return idle(shared);
  });
  pager.awaitReady();
  target->go = 1;
  awaitSleep(target);
  kill(pager.pid(), SIGKILL);
  CHECK(test::waitFor([&] {
    const std::vector<pid_t> children = proc::children(target.pid());
    return children.size() == 1 && proc::state(children[0], children[0]) == 'Z';
  }));
  CHECK(kindOf(target.pid()) == "attached");
  CHECK(proc::children(target.pid()).empty());
}

TEST(helper_that_was_killed_is_reaped_by_detach) {
  Target target(idle);
  target.awaitReady();
  const std::string before = test::snapshot(target.pid());
  Attached attached = attach(target.pid(), {});
  kill(attached.helper->pid(), SIGKILL);
  detach(attached);
  checkSame(before, target.pid());
}

TEST(death_of_the_tracer_kills_the_helper_and_leaves_the_target) {
  Target target(idle);
  target.awaitReady();
  Target pager([&](Shared& shared) {
    Attached attached = attach(target.pid(), {});
    shared.counter = attached.helper->pid();
    return idle(shared);
  });
  pager.awaitReady();
  const auto helper = static_cast<pid_t>(pager->counter);
  kill(pager.pid(), SIGKILL);
  CHECK(test::waitFor([&] { return proc::state(helper, helper) == 'Z'; }));
  sleepMs(20);
  CHECK(kindOf(target.pid()) == "orphaned");
  target->stop = 1;
  CHECK_EQUAL(target.join(), 0);
}

int main(int argc, char** argv) { return check::run(argc, argv); }
