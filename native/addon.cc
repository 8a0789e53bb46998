// The addon: the engine as JavaScript sees it (daemon/native-engine.ts declares the same). Thin: every function unpacks numbers and calls the engine.
//
// Lifetime: an engine, and all memory that its typed arrays show, lives until the environment of the thread that created it ends. So no array can
// outlive what it points to, and nothing need be counted. An environment that ends without detach() abandons: the target keeps its userfaultfd.
#include <sys/random.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <list>
#include <memory>

#include "engine.h"
#include "napi_glue.h"
#include "place.h"

namespace leap {
namespace {

using namespace glue;

struct Environment {
  std::list<std::unique_ptr<Engine>> engines;
};

Engine& engineOf(const Call& call) { return *static_cast<Engine*>(call.self); }

// The hot call: numbers in, a number out, no checks that the types of native-engine.ts make already.
napi_value turn(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2], result;
  void* self;
  uint32_t words = 0;
  double waitNs = 0;
  napi_get_cb_info(env, info, &count, arguments, nullptr, &self);
  napi_get_value_uint32(env, arguments[0], &words);
  napi_get_value_double(env, arguments[1], &waitNs);
  napi_create_uint32(env, static_cast<Engine*>(self)->turn(words, static_cast<int64_t>(waitNs)), &result);
  return result;
}

napi_value registerRange(const Call& call) { return number(call.env, engineOf(call).registerRange(call.index(0), call.wide(1), call.wide(2))); }
napi_value unregisterRange(const Call& call) { return number(call.env, engineOf(call).unregisterRange(call.index(0), call.wide(1), call.wide(2))); }
napi_value protectRange(const Call& call) { return number(call.env, engineOf(call).protectRange(call.index(0), call.wide(1), call.wide(2))); }
napi_value bind(const Call& call) { return engineOf(call).bind(call.index(0), call.wide(1), call.wide(2), call.index(3)), undefined(call.env); }
napi_value unbind(const Call& call) { return engineOf(call).unbind(call.index(0), call.wide(1), call.wide(2)), undefined(call.env); }
napi_value canEvict(const Call& call) { return boolean(call.env, engineOf(call).canEvict(call.index(0))); }
napi_value isAlive(const Call& call) { return boolean(call.env, engineOf(call).isAlive(call.index(0))); }
napi_value drop(const Call& call) { return engineOf(call).drop(call.index(0)), undefined(call.env); }
napi_value detach(const Call& call) { return engineOf(call).detach(), undefined(call.env); }
napi_value abandon(const Call& call) { return engineOf(call).abandon(), undefined(call.env); }
napi_value viewOf(const Call& call) { return number(call.env, engineOf(call).viewOf(call.index(0))); }
napi_value setSpin(const Call& call) { return engineOf(call).setSpin(static_cast<int64_t>(call.number(0))), undefined(call.env); }
napi_value wake(const Call& call) { return engineOf(call).wake(), undefined(call.env); }

napi_value adopt(const Call& call) {
  engineOf(call).adopt(call.index(0), static_cast<pid_t>(call.number(1)));
  return undefined(call.env);
}

napi_value residency(const Call& call) {
  uint64_t count = call.wide(2);
  return number(call.env, engineOf(call).residency(call.index(0), call.wide(1), count, bytes(call, 3, count)));
}

napi_value peekFrame(const Call& call) {
  const Frames& frames = engineOf(call).frames();
  if (!frames.holds(static_cast<int32_t>(call.number(0)), 1)) throw Error("bad-argument", "no such frame");
  memcpy(bytes(call, 1, kPageSize), frames.at(call.index(0)), kPageSize);
  return undefined(call.env);
}

// Moves the calling thread and all helpers; -1: anywhere.
napi_value place(const Call& call) {
  int cpu = static_cast<int>(call.number(0)), error = pinSelf(cpu);
  if (!error && cpu >= 0) engineOf(call).placeHelpers(cpu);
  return number(call.env, error);
}

// Where our own pages lie in a space, in virtual page numbers: [start, end), both 0 when there are none.
napi_value ownArea(const Call& call) {
  Helper::Area area = engineOf(call).areaOf(call.index(0));
  return object(call.env, {{"start", number(call.env, static_cast<double>(area.start / kPageSize))},
                           {"end", number(call.env, static_cast<double>(area.end / kPageSize))}});
}

napi_value stats(const Call& call) {
  napi_env env = call.env;
  const Engine::Counters& engine = engineOf(call).counters();
  const SwapFile::Counters& file = engineOf(call).swapFile().counters();
  auto count = [env](uint64_t value) { return number(env, static_cast<double>(value)); };
  return object(env, {{"turns", count(engine.turns)},
                      {"waits", count(engine.waits)},
                      {"spins", count(engine.spins)},
                      {"helperBatches", count(engine.helperBatches)},
                      {"pagesMoved", count(engine.pagesMoved)},
                      {"pagesDiscarded", count(engine.pagesDiscarded)},
                      {"staleMaps", count(engine.staleMaps)},
                      {"ioOperations", count(file.operations)},
                      {"ioRequests", count(file.requests)},
                      {"pagesRead", count(file.pagesRead)},
                      {"pagesWritten", count(file.pagesWritten)},
                      {"ioBacklogPeak", count(file.backlogPeak)}});
}

napi_value mechanism(const Call& call) {
  const Engine& engine = engineOf(call);
  return object(call.env, {{"vector", boolean(call.env, engine.canVector())},
                           {"ring", boolean(call.env, engine.swapFile().usesRing())},
                           {"direct", boolean(call.env, engine.swapFile().isDirect())}});
}

napi_value featureNames(napi_env env, uint64_t features) {
  static const char* const kNames[] = {"pagefault-flag-wp", "event-fork",       "event-remap", "event-remove",  "missing-hugetlbfs", "missing-shmem",
                                       "event-unmap",       "sigbus",           "thread-id",   "minor-hugetlbfs", "minor-shmem",     "exact-address",
                                       "wp-hugetlbfs-shmem", "wp-unpopulated", "poison",      "wp-async",      "move"};
  napi_value list;
  napi_create_array(env, &list);
  uint32_t used = 0;
  for (size_t bit = 0; bit < sizeof kNames / sizeof *kNames; bit++) {
    if (features >> bit & 1) napi_set_element(env, list, used++, text(env, kNames[bit]));
  }
  return list;
}

// What this machine offers, for `doctor`. `userfaultfd` says why not, or is empty.
napi_value probe(const Call& call) {
  napi_env env = call.env;
  utsname names{};
  uname(&names);
  uint64_t features = 0;
  std::string refusal;
  try {
    features = probeFeatures();
  } catch (const Error& error) {
    refusal = error.what();
  }
  io_uring ring{};
  int ringError = io_uring_queue_init(4, &ring, 0);
  if (ringError == 0) io_uring_queue_exit(&ring);
  return object(env, {{"kernel", text(env, names.release)},
                      {"machine", text(env, names.machine)},
                      {"features", featureNames(env, features)},
                      {"userfaultfd", text(env, refusal)},
                      {"userfaultfdDevice", boolean(env, access("/dev/userfaultfd", R_OK | W_OK) == 0)},
                      {"ioUring", boolean(env, ringError == 0)},
                      {"ioUringErrno", number(env, -ringError)}});
}

napi_value calibrateHere(const Call& call) {
  Calibration result = calibrate();
  return object(call.env, {{"sameCpuBlocking", number(call.env, static_cast<double>(result.sameCpuBlocking))},
                           {"otherCpuSpinning", number(call.env, static_cast<double>(result.otherCpuSpinning))},
                           {"otherCpuBlocking", number(call.env, static_cast<double>(result.otherCpuBlocking))}});
}

napi_value cpuOf(const Call& call) {
  return number(call.env, cpuOfThread(static_cast<pid_t>(call.number(0)), static_cast<pid_t>(call.number(1))));
}

EngineOptions optionsFrom(napi_env env, napi_value from) {
  EngineOptions options;
  napi_value path, inject;
  options.frames = static_cast<uint32_t>(field(env, from, "frames", 0.0));
  if (options.frames == 0 || !field(env, from, "swapFile", &path)) throw Error("bad-argument", "create needs frames and swapFile");
  options.swap.path = toText(env, path);
  options.swap.direct = field(env, from, "directIo", true);
  options.swap.useRing = field(env, from, "ring", true);
  options.attach.allowMove = field(env, from, "allowMove", true);
  options.attach.allowVector = field(env, from, "allowVector", true);
  if (field(env, from, "inject", &inject)) {
    options.swap.inject.failWriteAfter = static_cast<int64_t>(field(env, inject, "failWriteAfter", -1.0));
    options.swap.inject.failReadAfter = static_cast<int64_t>(field(env, inject, "failReadAfter", -1.0));
    options.swap.inject.corruptReadAfter = static_cast<int64_t>(field(env, inject, "corruptReadAfter", -1.0));
  }
  if (getrandom(&options.seed, sizeof options.seed, 0) != sizeof options.seed) throw Error("failed", "no random seed", errno);
  return options;
}

napi_value describe(napi_env env, Engine* engine) {
  EventBuffer& events = engine->events();
  size_t frames = engine->frames().count();
  napi_value result = object(env, {{"commands", view(env, napi_int32_array, engine->commands(), size_t{kMaxCommands} * kCommandWords, 4)},
                                   {"events", view(env, napi_int32_array, events.words(), events.capacityWords(), 4)},
                                   {"clock", view(env, napi_float64_array, engine->clock(), kClockWords, 8)},
                                   {"frameHashes", view(env, napi_int32_array, engine->frames().hashes(), frames * kHashWords, 4)},
                                   {"zeroHash", view(env, napi_int32_array, engine->frames().zeroHash(), kHashWords, 4)},
                                   {"wakeFd", number(env, engine->wakeFd())},
                                   {"canMove", boolean(env, engine->canMove())},
                                   {"canPoison", boolean(env, (engine->features() & UFFD_FEATURE_POISON) != 0)}});
  define(env, result, "turn", turn, engine);
  define(env, result, "register", entry<registerRange>, engine);
  define(env, result, "unregister", entry<unregisterRange>, engine);
  define(env, result, "protect", entry<protectRange>, engine);
  define(env, result, "bind", entry<bind>, engine);
  define(env, result, "unbind", entry<unbind>, engine);
  define(env, result, "residency", entry<residency>, engine);
  define(env, result, "canEvict", entry<canEvict>, engine);
  define(env, result, "isAlive", entry<isAlive>, engine);
  define(env, result, "drop", entry<drop>, engine);
  define(env, result, "peekFrame", entry<peekFrame>, engine);
  define(env, result, "detach", entry<detach>, engine);
  define(env, result, "abandon", entry<abandon>, engine);
  define(env, result, "adopt", entry<adopt>, engine);
  define(env, result, "viewOf", entry<viewOf>, engine);
  define(env, result, "ownArea", entry<ownArea>, engine);
  define(env, result, "place", entry<place>, engine);
  define(env, result, "setSpin", entry<setSpin>, engine);
  define(env, result, "wake", entry<wake>, engine);
  define(env, result, "stats", entry<stats>, engine);
  define(env, result, "mechanism", entry<mechanism>, engine);
  return result;
}

// The swap file first: when it cannot be made the target is never touched, and when the target refuses the file is taken away again.
napi_value create(const Call& call) {
  EngineOptions options = optionsFrom(call.env, call.arguments[0]);
  auto pid = static_cast<pid_t>(field(call.env, call.arguments[0], "pid", 0.0));
  auto engine = std::make_unique<Engine>(options);
  try {
    engine->attach(pid);
  } catch (...) {
    engine->swapFile().undo();
    throw;
  }
  void* environment = nullptr;
  napi_get_instance_data(call.env, &environment);
  napi_value result = describe(call.env, engine.get());
  static_cast<Environment*>(environment)->engines.push_back(std::move(engine));
  return result;
}

napi_value layout(napi_env env) {
  napi_value flat = object(env);
  auto set = [&](const char* name, int64_t value) { napi_set_named_property(env, flat, name, number(env, static_cast<double>(value))); };
  set("commandWords", kCommandWords), set("eventWords", kEventWords), set("hashWords", kHashWords);
  set("batchPages", kBatchPages), set("maxSpaces", kMaxSpaces), set("vpnLowBits", kVpnLowBits);
  const std::pair<const char*, Command> commands[] = {
      {"map", Command::kMap},         {"zero", Command::kZero},       {"wake", Command::kWake}, {"unprotect", Command::kUnprotect}, {"moveOut", Command::kMoveOut},
      {"discard", Command::kDiscard}, {"read", Command::kRead},       {"write", Command::kWrite}, {"poison", Command::kPoison}};
  for (auto [name, value] : commands) set((std::string("command.") + name).c_str(), static_cast<int64_t>(value));
  const std::pair<const char*, Event> events[] = {
      {"fault", Event::kFault},     {"faultUnknown", Event::kFaultUnknown}, {"remove", Event::kRemove},         {"unmap", Event::kUnmap},
      {"remap", Event::kRemap},     {"fork", Event::kFork},                 {"mapped", Event::kMapped},         {"unprotected", Event::kUnprotected},
      {"evicted", Event::kEvicted}, {"readDone", Event::kReadDone},         {"writeDone", Event::kWriteDone},   {"targetExit", Event::kTargetExit},
      {"helperLost", Event::kHelperLost}, {"wake", Event::kWake}};
  for (auto [name, value] : events) set((std::string("event.") + name).c_str(), static_cast<int64_t>(value));
  return flat;
}

napi_value initialise(napi_env env, napi_value exports) {
  napi_set_instance_data(
      env, new Environment, [](napi_env, void* data, void*) { delete static_cast<Environment*>(data); }, nullptr);
  napi_set_named_property(env, exports, "layout", layout(env));
  define(env, exports, "create", entry<create>);
  define(env, exports, "probe", entry<probe>);
  define(env, exports, "calibrate", entry<calibrateHere>);
  define(env, exports, "cpuOfThread", entry<cpuOf>);
  return exports;
}

}  // namespace
}  // namespace leap

NAPI_MODULE_INIT() { return leap::initialise(env, exports); }
