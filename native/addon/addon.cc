// The addon: the engine as JavaScript sees it (src/host/native-engine.ts declares the same). Thin: every function
// unpacks numbers and calls the engine.
//
// Lifetime: an engine, and all memory that its typed arrays show, lives until the environment of the thread that
// created it ends. So no array can outlive what it points to, and nothing need be counted. An environment that ends
// without detach() abandons: the target keeps its userfaultfd.
#include <sys/random.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <list>
#include <memory>

#include "addon/bindings.h"
#include "addon/fabric_addon.h"
#include "engine/engine.h"
#include "engine/place.h"

namespace leap {
namespace {

struct Environment {
  std::list<std::unique_ptr<Engine>> engines;
};

Engine& engineOf(const Info& info) { return *static_cast<Engine*>(info.Data()); }

// The hot call, past the wrappers: numbers in, a number out, no checks that the types of native-engine.ts make already.
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

Napi::Value registerRange(const Info& info) {
  return number(info, engineOf(info).registerRange(indexAt(info, 0), wideAt(info, 1), wideAt(info, 2)));
}
Napi::Value unregisterRange(const Info& info) {
  return number(info, engineOf(info).unregisterRange(indexAt(info, 0), wideAt(info, 1), wideAt(info, 2)));
}
Napi::Value protectRange(const Info& info) {
  return number(info, engineOf(info).protectRange(indexAt(info, 0), wideAt(info, 1), wideAt(info, 2)));
}
Napi::Value bind(const Info& info) {
  return engineOf(info).bind(indexAt(info, 0), wideAt(info, 1), wideAt(info, 2), indexAt(info, 3)), undefined(info);
}
Napi::Value unbind(const Info& info) {
  return engineOf(info).unbind(indexAt(info, 0), wideAt(info, 1), wideAt(info, 2)), undefined(info);
}
Napi::Value canEvict(const Info& info) { return boolean(info, engineOf(info).canEvict(indexAt(info, 0))); }
Napi::Value isAlive(const Info& info) { return boolean(info, engineOf(info).isAlive(indexAt(info, 0))); }
Napi::Value drop(const Info& info) { return engineOf(info).drop(indexAt(info, 0)), undefined(info); }
Napi::Value detach(const Info& info) { return engineOf(info).detach(), undefined(info); }
Napi::Value abandon(const Info& info) { return engineOf(info).abandon(), undefined(info); }
Napi::Value viewOf(const Info& info) { return number(info, engineOf(info).viewOf(indexAt(info, 0))); }
Napi::Value pidOf(const Info& info) { return number(info, engineOf(info).pidOf(indexAt(info, 0))); }
Napi::Value setSpin(const Info& info) {
  return engineOf(info).setSpin(static_cast<int64_t>(numberAt(info, 0))), undefined(info);
}

Napi::Value adopt(const Info& info) {
  engineOf(info).adopt(indexAt(info, 0), static_cast<pid_t>(numberAt(info, 1)));
  return undefined(info);
}

Napi::Value residency(const Info& info) {
  uint64_t count = wideAt(info, 2);
  return number(info, engineOf(info).residency(indexAt(info, 0), wideAt(info, 1), count, bytesAt(info, 3, count)));
}

// Moves the calling thread and all helpers; -1: anywhere.
Napi::Value place(const Info& info) {
  int cpu = static_cast<int>(numberAt(info, 0)), error = pinSelf(cpu);
  if (!error && cpu >= 0) engineOf(info).placeHelpers(cpu);
  return number(info, error);
}

// Where our own pages lie in a space, in virtual page numbers: [start, end), both 0 when there are none.
Napi::Value ownArea(const Info& info) {
  Area area = engineOf(info).areaOf(indexAt(info, 0));
  return object(info, {{"start", number(info, static_cast<double>(area.start / kPageSize))},
                       {"end", number(info, static_cast<double>(area.end / kPageSize))}});
}

Remote& remoteOf(const Info& info) {
  if (Remote* remote = engineOf(info).remote()) return *remote;
  throw Error(ErrorKind::kBadArgument, "the engine was made without RDMA");
}

Napi::Value setChunk(const Info& info) { return remoteOf(info).setChunk(indexAt(info, 0)), undefined(info); }
Napi::Value unmapChunk(const Info& info) {
  return remoteOf(info).unmap(indexAt(info, 0), indexAt(info, 1)), undefined(info);
}

Napi::Value mapChunk(const Info& info) {
  bool whole = info[4].IsBigInt();
  uint64_t address = whole ? info[4].As<Napi::BigInt>().Uint64Value(&whole) : 0;
  if (!whole || !remoteOf(info).map(indexAt(info, 0), indexAt(info, 1), indexAt(info, 2), indexAt(info, 3), address)) {
    throw Error(ErrorKind::kBadArgument, "no such replica, chunk or address");
  }
  return undefined(info);
}

// Pages that have gone over a connection, and the latency of its reads in ns.
Napi::Value traffic(const Info& info) {
  static const Remote::Traffic kNone{};
  const Remote::Traffic* found = remoteOf(info).traffic(indexAt(info, 0));
  const Remote::Traffic& traffic = found ? *found : kNone;
  return object(info, {{"reads", number(info, static_cast<double>(traffic.reads))},
                       {"writes", number(info, static_cast<double>(traffic.writes))},
                       {"p50", number(info, traffic.readLatency.quantile(0.5))},
                       {"p99", number(info, traffic.readLatency.quantile(0.99))}});
}

Napi::Value mechanism(const Info& info) {
  const Engine& engine = engineOf(info);
  return object(info, {{"vector", boolean(info, engine.canVector())},
                       {"ring", boolean(info, engine.swapFile().usesRing())},
                       {"direct", boolean(info, engine.swapFile().isDirect())}});
}

Napi::Value featureNames(const Info& info, uint64_t features) {
  static const char* const kNames[] = {"pagefault-flag-wp",
                                       "event-fork",
                                       "event-remap",
                                       "event-remove",
                                       "missing-hugetlbfs",
                                       "missing-shmem",
                                       "event-unmap",
                                       "sigbus",
                                       "thread-id",
                                       "minor-hugetlbfs",
                                       "minor-shmem",
                                       "exact-address",
                                       "wp-hugetlbfs-shmem",
                                       "wp-unpopulated",
                                       "poison",
                                       "wp-async",
                                       "move"};
  auto list = Napi::Array::New(info.Env());
  uint32_t used = 0;
  for (size_t bit = 0; bit < sizeof kNames / sizeof *kNames; bit++) {
    if (features >> bit & 1) list.Set(used++, text(info, kNames[bit]));
  }
  return list;
}

// What this machine offers, for `doctor`. `userfaultfd` says why not, or is empty.
Napi::Value probe(const Info& info) {
  utsname names{};
  uname(&names);
  uint64_t features = 0;
  std::string refusal;
  try {
    features = probeFeatures();
  } catch (const Error& error) { refusal = error.what(); }
  io_uring ring{};
  int ringError = io_uring_queue_init(4, &ring, 0);
  if (ringError == 0) io_uring_queue_exit(&ring);
  return object(info, {{"kernel", text(info, names.release)},
                       {"machine", text(info, names.machine)},
                       {"features", featureNames(info, features)},
                       {"userfaultfd", text(info, refusal)},
                       {"userfaultfdDevice", boolean(info, access("/dev/userfaultfd", R_OK | W_OK) == 0)},
                       {"ioUring", boolean(info, ringError == 0)},
                       {"ioUringErrno", number(info, -ringError)}});
}

Napi::Value calibrateHere(const Info& info) {
  Calibration result = calibrate();
  return object(info, {{"sameCpuBlocking", number(info, static_cast<double>(result.sameCpuBlocking))},
                       {"otherCpuSpinning", number(info, static_cast<double>(result.otherCpuSpinning))},
                       {"otherCpuBlocking", number(info, static_cast<double>(result.otherCpuBlocking))}});
}

Napi::Value cpuOf(const Info& info) {
  return number(info, cpuOfThread(static_cast<pid_t>(numberAt(info, 0)), static_cast<pid_t>(numberAt(info, 1))));
}

// An optional field of an options object.
double field(const Napi::Object& options, const char* name, double otherwise) {
  Napi::Value value = options.Get(name);
  return value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : otherwise;
}
bool field(const Napi::Object& options, const char* name, bool otherwise) {
  Napi::Value value = options.Get(name);
  return value.IsBoolean() ? value.As<Napi::Boolean>().Value() : otherwise;
}

EngineOptions optionsFrom(const Napi::Object& from) {
  EngineOptions options;
  options.frames = static_cast<uint32_t>(field(from, "frames", 0.0));
  if (options.frames == 0 || !from.Get("swapFile").IsString())
    throw Error(ErrorKind::kBadArgument, "create needs frames and swapFile");
  options.rdma = field(from, "rdma", false);
  options.swap.path = from.Get("swapFile").As<Napi::String>().Utf8Value();
  options.swap.direct = field(from, "directIo", true);
  options.swap.useRing = field(from, "ring", true);
  options.attach.allowMove = field(from, "allowMove", true);
  options.attach.allowVector = field(from, "allowVector", true);
  if (from.Get("inject").IsObject()) {
    auto inject = from.Get("inject").As<Napi::Object>();
    options.swap.inject.failWriteAfter = static_cast<int64_t>(field(inject, "failWriteAfter", -1.0));
    options.swap.inject.failReadAfter = static_cast<int64_t>(field(inject, "failReadAfter", -1.0));
    options.swap.inject.corruptReadAfter = static_cast<int64_t>(field(inject, "corruptReadAfter", -1.0));
  }
  if (getrandom(&options.seed, sizeof options.seed, 0) != sizeof options.seed)
    throw Error(ErrorKind::kFailed, "no random seed", errno);
  return options;
}

void describeFabric(Napi::Object target, Engine* engine) {
  defineFabric(target, engine->fabric());
  define<setChunk>(target, "setChunk", engine);
  define<mapChunk>(target, "mapChunk", engine);
  define<unmapChunk>(target, "unmapChunk", engine);
  define<traffic>(target, "traffic", engine);
}

// As a method of what `create` returned, which has the functions of the fabric from then on.
Napi::Value openFabric(const Info& info) {
  Engine& engine = engineOf(info);
  if (engine.fabric()) return undefined(info);
  engine.openFabric();
  describeFabric(info.This().As<Napi::Object>(), &engine);
  return undefined(info);
}

Napi::Value describe(const Info& info, Engine* engine) {
  EventBuffer& events = engine->events();
  size_t frames = engine->frames().count();
  auto result = object(info, {{"commands", view(info, engine->commands(), size_t{kMaxCommands} * kCommandWords)},
                              {"events", view(info, events.words(), events.capacityWords())},
                              {"clock", view(info, engine->clock(), kClockWords)},
                              {"frameHashes", view(info, engine->frames().hashes(), frames * kHashWords)},
                              {"zeroHash", view(info, engine->frames().zeroHash(), kHashWords)},
                              {"wakeFd", number(info, engine->wakeFd())},
                              {"canMove", boolean(info, engine->canMove())},
                              {"canPoison", boolean(info, (engine->features() & UFFD_FEATURE_POISON) != 0)}})
                    .As<Napi::Object>();
  napi_value hot;
  napi_create_function(info.Env(), "turn", NAPI_AUTO_LENGTH, turn, engine, &hot);
  result.Set("turn", Napi::Value(info.Env(), hot));
  define<registerRange>(result, "register", engine);
  define<unregisterRange>(result, "unregister", engine);
  define<protectRange>(result, "protect", engine);
  define<bind>(result, "bind", engine);
  define<unbind>(result, "unbind", engine);
  define<residency>(result, "residency", engine);
  define<canEvict>(result, "canEvict", engine);
  define<isAlive>(result, "isAlive", engine);
  define<drop>(result, "drop", engine);
  define<detach>(result, "detach", engine);
  define<abandon>(result, "abandon", engine);
  define<adopt>(result, "adopt", engine);
  define<viewOf>(result, "viewOf", engine);
  define<pidOf>(result, "pidOf", engine);
  define<ownArea>(result, "ownArea", engine);
  define<place>(result, "place", engine);
  define<setSpin>(result, "setSpin", engine);
  define<mechanism>(result, "mechanism", engine);
  define<openFabric>(result, "openFabric", engine);
  if (engine->fabric()) describeFabric(result, engine);
  return result;
}

// The swap file first: when it cannot be made the target is never touched, and when the target refuses the file is
// taken away again.
Napi::Value create(const Info& info) {
  if (!info[0].IsObject()) throw Error(ErrorKind::kBadArgument, "create needs options");
  auto from = info[0].As<Napi::Object>();
  EngineOptions options = optionsFrom(from);
  auto pid = static_cast<pid_t>(field(from, "pid", 0.0));
  auto engine = std::make_unique<Engine>(options);
  try {
    engine->attach(pid);
  } catch (...) {
    engine->swapFile().undo();
    throw;
  }
  Napi::Value result = describe(info, engine.get());
  info.Env().GetInstanceData<Environment>()->engines.push_back(std::move(engine));
  return result;
}

Napi::Object layout(Napi::Env env) {
  auto flat = Napi::Object::New(env);
  auto set = [&flat](const char* name, int64_t value) { flat.Set(name, static_cast<double>(value)); };
  set("commandWords", kCommandWords), set("eventWords", kEventWords), set("hashWords", kHashWords);
  set("batchPages", kBatchPages), set("maxSpaces", kMaxSpaces), set("vpnLowBits", kVpnLowBits),
      set("placeShift", kPlaceShift);
  const std::pair<const char*, Command> commands[] = {
      {"map", Command::kMap},         {"zero", Command::kZero},
      {"wake", Command::kWake},       {"unprotect", Command::kUnprotect},
      {"moveOut", Command::kMoveOut}, {"discard", Command::kDiscard},
      {"read", Command::kRead},       {"write", Command::kWrite},
      {"poison", Command::kPoison}};
  for (auto [name, value] : commands) set((std::string("command.") + name).c_str(), static_cast<int64_t>(value));
  const std::pair<const char*, Event> events[] = {
      {"fault", Event::kFault},           {"faultUnknown", Event::kFaultUnknown},
      {"remove", Event::kRemove},         {"unmap", Event::kUnmap},
      {"remap", Event::kRemap},           {"fork", Event::kFork},
      {"mapped", Event::kMapped},         {"unprotected", Event::kUnprotected},
      {"evicted", Event::kEvicted},       {"readDone", Event::kReadDone},
      {"writeDone", Event::kWriteDone},   {"targetExit", Event::kTargetExit},
      {"helperLost", Event::kHelperLost}, {"wake", Event::kWake},
      {"fabric", Event::kFabric}};
  for (auto [name, value] : events) set((std::string("event.") + name).c_str(), static_cast<int64_t>(value));
  return flat;
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Environment);
  exports.Set("layout", layout(env));
  define<create>(exports, "create");
  define<probe>(exports, "probe");
  define<calibrateHere>(exports, "calibrate");
  define<cpuOf>(exports, "cpuOfThread");
  defineFabricExports(exports);
  return exports;
}

}  // namespace
}  // namespace leap

static Napi::Object load(Napi::Env env, Napi::Object exports) { return leap::initialise(env, exports); }
NODE_API_MODULE(leap, load)
