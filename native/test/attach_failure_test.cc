// Attaches that fail or are refused, and endings out of the ordinary: the target is whole afterwards, nothing of ours stays.
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <cerrno>
#include <thread>

#include "../attach.h"
#include "check.h"
#include "target.h"

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
    return error.kind;
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
  checkSame(before, target.pid());
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
