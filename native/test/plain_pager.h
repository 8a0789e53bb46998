// A pager of ten lines, in which page, frame and slot are one number, for an obedient child.
#pragma once
#include <unistd.h>
#include <cerrno>
#include <functional>
#include <memory>
#include <string>

#include "engine/engine.h"
#include "expect.h"
#include "obedient.h"

namespace obedient {

using namespace leap;

constexpr int64_t kWaitNs = 20000000;
constexpr int kPatience = 500;  // turns without an end in sight, then a test gives up

struct Pager {
  Target target;
  std::string path = "/var/tmp/leap-engine-test-" + std::to_string(getpid());
  std::unique_ptr<Engine> engine;
  uint32_t commands = 0;
  bool stored[4 * kPages] = {};
  std::function<bool(const int32_t*)> hook;  // true: the event has been dealt with

  explicit Pager(bool move = true, bool vector = true) {
    unlink(path.c_str());
    EngineOptions options;
    options.frames = 2 * kPages;
    options.seed = 42;
    options.swap.path = path;
    options.attach.allowMove = move;
    options.attach.allowVector = vector;
    engine = std::make_unique<Engine>(options);
    engine->attach(target.pid);
    EXPECT(engine->registerRange(0, target.vpn(), kPages) == 0);
    engine->bind(0, target.vpn(), kPages, 0);
  }
  ~Pager() {
    engine.reset();
    unlink(path.c_str());
  }

  void command(Command what, uint32_t page, uint32_t frame, uint32_t count) {
    int32_t* words = engine->commands() + commands;
    words[0] = static_cast<int32_t>(what), words[1] = static_cast<int32_t>(page),
    words[2] = static_cast<int32_t>(frame);
    words[3] = static_cast<int32_t>(count);
    commands += kCommandWords;
  }

  void serve(const int32_t* event) {
    if (hook && hook(event)) return;
    auto page = static_cast<uint32_t>(event[1]);
    switch (static_cast<Event>(event[0])) {
      case Event::kFault:
        if (event[3] & 2) {
          command(Command::kUnprotect, page, 0, 1);
        } else {
          command(stored[page] ? Command::kMap : Command::kZero, page, page % kPages, 1);
        }
        break;
      case Event::kMapped:
        EXPECT(event[4] == 0 || event[4] == EEXIST || event[4] == EAGAIN || event[4] == ESRCH);
        if (event[4] == EAGAIN)
          command(event[2] < 0 ? Command::kZero : Command::kMap, page, static_cast<uint32_t>(event[2]), 1);
        break;
      case Event::kEvicted:
        for (int32_t i = 0; i < event[3]; i++) stored[event[1] + i] = event[4] == 0;
        break;
      case Event::kUnprotected:
      case Event::kFork: break;
      default: EXPECT(!"an event that was not expected");
    }
  }

  uint32_t turn(int64_t waitNs) {
    uint32_t words = engine->turn(commands, waitNs);
    commands = 0;
    for (uint32_t at = 0; at < words; at += kEventWords) serve(engine->events().words() + at);
    return words;
  }

  // Turns until the condition holds.
  bool until(const std::function<bool()>& condition, int64_t waitNs = kWaitNs) {
    for (int i = 0; i < kPatience * 10; i++) {
      if (condition()) return true;
      turn(waitNs);
    }
    return condition();
  }

  char tell(char what) {
    char answer = 0;
    target.order(what);
    until([&] { return target.answered(&answer); }, 1000000);
    return answer;
  }

  // Every second page, in runs of one, or the lower half in runs of 64.
  uint32_t evict(Command how, bool scattered, uint32_t base = 0) {
    uint32_t evicted = 0;
    hook = [&](const int32_t* event) {
      if (event[0] != static_cast<int32_t>(Event::kEvicted)) return false;
      EXPECT(event[4] == 0 && event[5] == static_cast<int32_t>(how));
      evicted += static_cast<uint32_t>(event[3]);
      return false;
    };
    if (scattered) {
      for (uint32_t page = 0; page < kPages; page += 2) command(how, base + page, page, 1);
    } else {
      for (uint32_t page = 0; page < kPages / 2; page += kBatchPages) command(how, base + page, page, kBatchPages);
    }
    turn(0);
    hook = nullptr;
    return evicted;
  }

  bool framesHold(uint32_t frame, uint32_t page) {
    for (uint32_t byte = 0; byte < kPageSize; byte++) {
      if (engine->frames().at(frame)[byte] != pattern(page, byte)) return false;
    }
    return true;
  }

  void leave() {
    EXPECT(tell('v') == 'y');
    EXPECT(engine->unregisterRange(0, target.vpn(), kPages) == 0);
    engine->detach();
    target.order('v');
    char answer = 0;
    for (int i = 0; i < kPatience && !target.answered(&answer); i++) usleep(1000);
    EXPECT(answer == 'y');
  }
};

}  // namespace obedient
