// Forked children: a helper of their own over the userfaultfd that the fork event brought.
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <cerrno>

#include "attach/attach.h"
#include "check.h"
#include "target.h"
#include "target/tracee.h"

using namespace leap;
using test::Shared;
using test::sleepMs;
using test::Target;

namespace {

constexpr uint64_t kPage = kPageSize;
constexpr size_t kPages = 64;

uint64_t word(size_t page) { return page * 0x9e3779b97f4a7c15ull + 1; }

// Fills pages, forks when told to; the child waits, verifies all its pages (reading the last by a system call), ends.
int forker(Shared& shared) {
  auto* memory =
      static_cast<uint64_t*>(mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  for (size_t page = 0; page < kPages; page++) memory[page * (kPage / 8)] = word(page);
  shared.address = reinterpret_cast<uint64_t>(memory);
  shared.ready = 1;
  while (!shared.go) sleepMs(1);
  const pid_t child = fork();
  if (child == 0) {
    shared.counter = getpid();
    shared.ready = 2;
    if (shared.extra) {
      int pipes[2];
      if (pipe(pipes) || write(pipes[1], &memory[(kPages - 1) * (kPage / 8)], 8) != 8) _exit(6);
      close(pipes[0]);
      close(pipes[1]);
    }
    while (shared.go < 2) sleepMs(1);
    for (size_t page = 0; page < kPages; page++) {
      if (memory[page * (kPage / 8)] != word(page)) _exit(5);
      memory[page * (kPage / 8)] = page;
    }
    _exit(0);
  }
  int status = -1;
  waitpid(child, &status, 0);
  for (size_t page = 0; page < kPages; page++) {
    if (memory[page * (kPage / 8)] != word(page)) return 4;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

// Parent and child under one pager, with one store of what was taken before the fork.
struct Family {
  Family(bool move, bool readBySystemCall) : target(forker) {
    target.awaitReady();
    target->extra = readBySystemCall;
    base = target->address;
    parent = attach(target.pid(), {move, true});
    uffdio_register request{{base, kPages * kPage}, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP, 0};
    if (ioctl(parent.uffd, UFFDIO_REGISTER, &request)) check::fail(__FILE__, __LINE__, "register");
    store = static_cast<uint8_t*>(aligned_alloc(kPage, kPages * kPage));
    int status[kPages];
    const Helper::Run run{base, kPages, store};
    Ignore ignore;
    const bool well = move && parent.helper->canMove() ? parent.helper->moveOut(&run, 1, status)
                                                       : parent.helper->discard(&run, 1, status, ignore);
    if (!well || status[0] || status[kPages - 1]) check::fail(__FILE__, __LINE__, "the pages cannot be taken");
    target->go = 1;
    if (!serve([&] { return childUffd >= 0 && target->ready == 2; })) check::fail(__FILE__, __LINE__, "no fork event");
    childPid = static_cast<pid_t>(target->counter);
    serveChild = true;
  }
  ~Family() {
    if (childPid > 0) kill(childPid, SIGKILL);
    abandon(child);
    if (childUffd >= 0) close(childUffd);
    abandon(parent);
    free(store);
  }
  bool serve(const std::function<bool()>& done, int ms = 5000) {
    for (int i = 0; i < ms; i++) {
      if (done()) return true;  // what has been seen once need not be so a moment later
      const int fds[] = {parent.uffd, !serveChild ? -1 : child.uffd >= 0 ? child.uffd : childUffd};
      pollfd waits[] = {{fds[0], POLLIN, 0}, {fds[1], POLLIN, 0}};
      poll(waits, 2, 1);
      for (const int fd : fds) {
        if (fd < 0) continue;
        pollfd now{fd, POLLIN, 0};
        uffd_msg message;
        while (poll(&now, 1, 0) > 0 && now.revents == POLLIN && read(fd, &message, sizeof message) == sizeof message)
          handle(fd, message);
      }
    }
    return done();
  }
  void handle(int fd, const uffd_msg& message) {
    if (message.event == UFFD_EVENT_FORK) childUffd = static_cast<int>(message.arg.fork.ufd);
    if (message.event != UFFD_EVENT_PAGEFAULT) return;
    const uint64_t page = message.arg.pagefault.address & ~(kPage - 1);
    uffdio_copy copy{page, reinterpret_cast<uint64_t>(store + (page - base)), kPage, 0, 0};
    if (ioctl(fd, UFFDIO_COPY, &copy)) {
      uffdio_range range{page, kPage};
      ioctl(fd, UFFDIO_WAKE, &range);
    }
  }
  struct Ignore : Helper::Sink {
    void message(const uffd_msg&) override {}
  };

  Target target;
  uint64_t base = 0;
  Attached parent, child;
  int childUffd = -1;  // while it is not adopted
  pid_t childPid = -1;
  bool serveChild = false;
  uint8_t* store = nullptr;
};

void adopted(bool move) {
  Family family(move, false);
  const std::string before = test::snapshot(family.childPid);
  family.child = adopt(family.childPid, family.childUffd, family.parent, {move, true});
  family.childUffd = -1;
  CHECK_EQUAL(family.child.targetFd, family.parent.targetFd);
  // Bring pages of the child in, take them away again by its own helper.
  for (uint64_t page = 0; page < 8; page++) {
    uffdio_copy copy{family.base + page * kPage, reinterpret_cast<uint64_t>(family.store + page * kPage), kPage, 0, 0};
    CHECK(ioctl(family.child.uffd, UFFDIO_COPY, &copy) == 0);
  }
  alignas(kPageSize) static uint8_t bytes[10 * kPage];
  int status[10];
  const Helper::Run run{family.base, 10, bytes};
  Family::Ignore ignore;
  CHECK(move && family.child.helper->canMove() ? family.child.helper->moveOut(&run, 1, status)
                                               : family.child.helper->discard(&run, 1, status, ignore));
  for (int page = 0; page < 10; page++) {
    CHECK_EQUAL(status[page], page < 8 ? 0 : ENOENT);
    if (page < 8)
      CHECK(memcmp(bytes + page * static_cast<int>(kPage), family.store + page * static_cast<int>(kPage), kPage) == 0);
  }
  family.target->go = 2;
  CHECK(family.serve([&] { return proc::state(family.childPid, family.childPid) == 0; }));
  CHECK(family.serve([&] { return proc::state(family.target.pid(), family.target.pid()) == 'Z'; }));
  CHECK_EQUAL(family.target.join(), 0);
}

}  // namespace

TEST(child_gets_its_own_helper_with_moves) {
  if (!(probeFeatures() & UFFD_FEATURE_MOVE)) throw check::Skip("no UFFDIO_MOVE (Linux 6.8)");
  adopted(true);
}
TEST(child_gets_its_own_helper_with_discards) { adopted(false); }

TEST(release_of_a_child_leaves_it_whole) {
  Family family(true, false);
  family.child = adopt(family.childPid, family.childUffd, family.parent, {});
  family.childUffd = -1;
  for (uint64_t page = 0; page < kPages; page++) {
    uffdio_copy copy{family.base + page * kPage, reinterpret_cast<uint64_t>(family.store + page * kPage), kPage, 0, 0};
    CHECK(ioctl(family.child.uffd, UFFDIO_COPY, &copy) == 0);
  }
  uffdio_range range{family.base, kPages * kPage};
  CHECK(ioctl(family.child.uffd, UFFDIO_UNREGISTER, &range) == 0);
  detach(family.child);
  CHECK(proc::children(family.childPid).empty());
  const std::string after = test::snapshot(family.childPid);
  CHECK(after.find("userfaultfd") == std::string::npos);
  family.target->go = 2;
  CHECK(family.serve([&] { return proc::state(family.target.pid(), family.target.pid()) == 'Z'; }));
  CHECK_EQUAL(family.target.join(), 0);
}

TEST(failed_adoption_leaves_the_child_whole) {
  Family family(true, false);
  int steps = 0;
  std::string before = test::snapshot(family.childPid);
  before.erase(before.find(" -> anon_inode:[userfaultfd]") - 3);  // the descriptor it inherited may go
  for (int k = 1; k == 1 || k <= steps; k++) {
    failAtStep = k;
    std::string kind;
    try {
      Attached child = adopt(family.childPid, family.childUffd, family.parent, {});
      steps = 0;
      detach(child);
    } catch (const Error& error) {
      kind = wordOf(error.kind);
      steps = k + 1;
    }
    failAtStep = 0;
    if (kind.empty()) break;
    CHECK(kind == "injected");
    CHECK(test::snapshot(family.childPid).compare(0, before.size(), before) == 0);
    CHECK(proc::children(family.childPid).empty());
    CHECK(fcntl(family.childUffd, F_GETFD) >= 0);
    if (k > 40) check::fail(__FILE__, __LINE__, "steps without end");
  }
  CHECK(stepsPassed >= 8);
}

// The child waits in a system call for a page that we alone can bring: it cannot be stopped, must not be kept from
// going on, can be adopted afterwards.
TEST(child_in_a_system_call_on_a_stored_page) {
  Family family(true, true);
  CHECK(test::waitFor([&] {
    std::string where;
    return proc::readAll(proc::path(family.childPid, "wchan"), &where) && where == "handle_userfault";
  }));
  std::string kind;
  try {
    family.child = adopt(family.childPid, family.childUffd, family.parent, {});
  } catch (const Error& error) { kind = wordOf(error.kind); }
  CHECK(kind == "timeout");
  CHECK(family.serve(
      [&] {
        std::string where;
        return !releaseStragglers() && proc::readAll(proc::path(family.childPid, "wchan"), &where) &&
               where == "hrtimer_nanosleep";
      },
      30000));
  std::string status;
  proc::readAll(proc::path(family.childPid, "status"), &status);
  CHECK(proc::statusField(status, "TracerPid") == "0");
  family.child = adopt(family.childPid, family.childUffd, family.parent, {});
  family.childUffd = -1;
  family.target->go = 2;
  CHECK(family.serve([&] { return proc::state(family.target.pid(), family.target.pid()) == 'Z'; }));
  CHECK_EQUAL(family.target.join(), 0);
}

// A thread that was asked to stop and did not in time is let go as soon as it does.
TEST(stragglers_are_let_go) {
  Target target(test::idle);
  target.awaitReady();
  const std::string before = test::snapshot(target.pid());
  int late = 0;
  for (int i = 0; i < 200; i++) {
    try {
      const Tracee inNoTime(target.pid(), {0, 0, 0});
    } catch (const Error& error) {
      CHECK(error.kind == ErrorKind::kTimeout);
      late++;
    }
    CHECK(test::waitFor([] { return !releaseStragglers(); }));
  }
  test::checkSame(before, target.pid());
  if (late == 0) throw check::Skip("every stop was immediate");
  target->stop = 1;
  CHECK_EQUAL(target.join(), 0);
}

// Killed in the midst of its adoption: its parent, which waits for it, hears of that at once, though a thread of ours
// was its tracer.
TEST(child_that_is_killed_while_it_is_adopted) {
  for (int i = 0; i < 200; i++) {
    Family family(true, false);
    std::thread killer([&family, i] {
      std::this_thread::sleep_for(std::chrono::microseconds(i % 50 * 12));
      kill(family.childPid, SIGKILL);
    });
    try {
      family.child = adopt(family.childPid, family.childUffd, family.parent, {});
      family.childUffd = -1;
    } catch (const Error&) {
      // Sooner or later it is found dead.
    }
    killer.join();
    CHECK(family.serve(
        [&] { return !releaseStragglers() && proc::state(family.target.pid(), family.target.pid()) == 'Z'; }, 1000));
    CHECK_EQUAL(family.target.join(), 99);
  }
}

// Across a pid namespace: the helper has another number inside than for us.
TEST(target_in_another_pid_namespace) {
  Target outer([](Shared& shared) {
    if (unshare(CLONE_NEWPID)) return 77;
    const pid_t inner = fork();
    if (inner == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      while (!shared.stop) sleepMs(1);
      _exit(waitpid(-1, nullptr, WNOHANG) == -1 ? 0 : 4);
    }
    shared.counter = inner;
    shared.ready = 1;
    int status = -1;
    waitpid(inner, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 5;
  });
  if (!test::waitFor([&] { return outer->ready == 1; }, 500)) throw check::Skip("may not unshare(CLONE_NEWPID)");
  const auto inner = static_cast<pid_t>(outer->counter);
  const std::string before = test::snapshot(inner);
  Attached attached = attach(inner, {});
  CHECK(attached.helperInside != attached.helper->pid());
  detach(attached);
  const std::string difference = test::firstDifference(before, test::snapshot(inner));
  if (!difference.empty()) check::fail(__FILE__, __LINE__, difference);
  outer->stop = 1;
  CHECK_EQUAL(outer.join(), 0);
}

int main(int argc, char** argv) { return check::run(argc, argv); }
