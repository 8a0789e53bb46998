// Targets that are frozen by their control group, before an attach, in the midst of one, of a detach, and of an
// eviction.
#include <chrono>

#include "freezer.h"
#include "paged.h"
#include "target/cgroup.h"
#include "target/tracee.h"

using namespace leap;
using namespace test;

namespace {

Freezer* freezer = nullptr;  // of the Scene that lives, for freezeThere
int freezeAt = -1;           // step of the attach at which the target is frozen

void freezeThere(int step) {
  if (step == freezeAt) freezer->freeze();
}

std::string kindOf(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) { return wordOf(error.kind); }
  return "";
}

// Thaws a control group `ms` milliseconds after it was frozen. Its destructor waits for that.
class Thaw {
 public:
  Thaw(Freezer& group, int ms)
      : thread_([&group, ms] {
          waitFor([&group] { return group.wasFrozen(); });
          sleepMs(ms);
          group.thaw();
        }) {}
  ~Thaw() { thread_.join(); }

 private:
  std::thread thread_;
};

// An idle target in a group of its own, and how it was at first.
struct Scene {
  explicit Scene(bool unified) : group(unified), target(idle) {
    freezer = &group;
    freezeAt = -1;
    atStep = freezeThere;
    target.awaitReady();
    group.add(target.pid());
    before = snapshot(target.pid());
  }
  ~Scene() {
    atStep = nullptr;
    freezer = nullptr;
  }
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;
  void leave() {
    checkSame(before, target.pid());
    target->stop = 1;
    CHECK_EQUAL(target.join(), 0);
  }

  Freezer group;
  Target target;
  std::string before;
};

void refused(bool unified) {
  Scene scene(unified);
  CHECK(!cgroup::frozen(scene.target.pid()));
  scene.group.freeze();
  CHECK(kindOf([&] { attach(scene.target.pid(), {}); }) == "frozen");
  scene.group.thaw();
  CHECK(!cgroup::frozen(scene.target.pid()));
  Attached attached = attach(scene.target.pid(), {});
  scene.group.freeze();
  CHECK(kindOf([&] { detach(attached); }) == "frozen");
  scene.group.thaw();
  detach(attached);
  scene.leave();
}

void forAMoment(bool unified) {
  Scene scene(unified);
  for (int step = 1, steps = 1; step <= steps; step++) {
    Attached attached;
    freezeAt = step;
    {
      const Thaw soon(scene.group, 20);
      attached = attach(scene.target.pid(), {});
    }
    steps = stepsPassed;
    freezeAt = 0;
    {
      const Thaw soon(scene.group, 20);
      detach(attached);
    }
    checkSame(scene.before, scene.target.pid());
  }
  scene.leave();
}

// Longer than a call may take: the attach is given up, and undone when the target has been thawed.
void forLong(bool unified) {
  Scene scene(unified);
  freezeAt = 5;
  {
    const Thaw late(scene.group, Tracee::kPatience + 500);
    CHECK(kindOf([&] { attach(scene.target.pid(), {}); }) == "frozen");
  }
  checkSame(scene.before, scene.target.pid());
  freezeAt = -1;
  Attached attached = attach(scene.target.pid(), {});
  detach(attached);
  scene.leave();
}

// Longer than anybody waits.
void forTooLong(bool unified) {
  Scene scene(unified);
  {
    Tracee tracee(scene.target.pid(), {100, 100, 100});
    CHECK(tracee.call(SYS_getppid) == getpid());
    scene.group.freeze();
    CHECK(kindOf([&] { tracee.call(SYS_getppid); }) == "frozen");
  }
  {
    const Thaw soon(scene.group, 50);
    CHECK(!awaitStragglers());
  }
  CHECK(waitFor([] { return !releaseStragglers(); }));
  scene.leave();
}

// Who can be let go only after a call has been done: restored already when it is frozen on its way.
void onItsWayOut(bool unified) {
  Scene scene(unified);
  {
    Tracee tracee(scene.target.pid(), {100, 100, 100});
    CHECK(tracee.call(SYS_getppid) == getpid());
    scene.group.freeze();
  }
  CHECK(!awaitStragglers());
  scene.group.thaw();
  CHECK(waitFor([] { return !releaseStragglers(); }));
  scene.leave();
}

// The helper does its work all the same: the caller has others to serve.
void evictions(bool unified, char way) {
  Freezer group(unified);
  Paged paged(holder, way == 'm', true);
  group.add(paged.target.pid());
  group.add(paged.attached.helper->pid());
  group.freeze();
  {
    const Thaw late(group, 2000);
    const auto begin = std::chrono::steady_clock::now();
    CHECK(all(paged.take(way, {{0, 8}, {20, 1}}), 0));
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(1000));
    CHECK(cgroup::frozen(paged.target.pid()) && !cgroup::frozen(paged.attached.helper->pid()));
    CHECK(all(paged.take(way, {{30, 8}}), 0));
  }
  paged.verifyAndDetach();
  paged.target->stop = 1;
  CHECK_EQUAL(paged.target.join(), 0);
}

void ofAFrozenHelper(bool unified) {
  Freezer group(unified);
  Paged paged(holder, true, true);
  group.add(paged.attached.helper->pid());
  group.freeze();
  const pid_t helper = paged.attached.helper->pid();
  paged.attached.helper.reset();
  CHECK(waitFor([&] { return proc::state(helper, helper) == 'Z'; }, 100));
}

}  // namespace

TEST(frozen_targets_are_refused_v2) { refused(true); }
TEST(frozen_targets_are_refused_v1) { refused(false); }
TEST(frozen_for_a_moment_at_every_step_v2) { forAMoment(true); }
TEST(frozen_for_a_moment_at_every_step_v1) { forAMoment(false); }
TEST(frozen_for_longer_than_an_attach_may_take_v2) { forLong(true); }
TEST(frozen_for_longer_than_an_attach_may_take_v1) { forLong(false); }
TEST(frozen_for_longer_than_we_wait_v2) { forTooLong(true); }
TEST(frozen_for_longer_than_we_wait_v1) { forTooLong(false); }
TEST(frozen_as_it_is_let_go_v2) { onItsWayOut(true); }
TEST(frozen_as_it_is_let_go_v1) { onItsWayOut(false); }
TEST(move_from_a_frozen_target_v2) {
  needMove();
  evictions(true, 'm');
}
TEST(move_from_a_frozen_target_v1) {
  needMove();
  evictions(false, 'm');
}
TEST(discard_from_a_frozen_target_v2) { evictions(true, 'd'); }
TEST(discard_from_a_frozen_target_v1) { evictions(false, 'd'); }
TEST(end_of_a_frozen_helper_v2) { ofAFrozenHelper(true); }
TEST(end_of_a_frozen_helper_v1) { ofAFrozenHelper(false); }

int main(int argc, char** argv) { return check::run(argc, argv); }
