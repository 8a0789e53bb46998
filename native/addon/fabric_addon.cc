#include "addon/fabric_addon.h"

#include <uv.h>

#include <algorithm>
#include <map>
#include <memory>
#include <type_traits>
#include <vector>

#include "addon/bindings.h"
#include "rdma/memory.h"

namespace leap {
namespace {

constexpr uint32_t kMaxHello = 56, kMaxWelcome = 196, kMaxRefusal = 148;  // private data of the connection manager
constexpr int kRounds = 16;  // of poll and callback before the rest of the program has its turn

uint16_t portAt(const Info& info, size_t at) {
  double port = numberAt(info, at);
  if (!(port >= 1 && port <= 65535)) throw Error(ErrorKind::kBadArgument, "a port is between 1 and 65535");
  return static_cast<uint16_t>(port);
}

std::string textAt(const Info& info, size_t at) {
  if (!info[at].IsString()) throw Error(ErrorKind::kBadArgument, "expected a text");
  return info[at].As<Napi::String>().Utf8Value();
}

struct Bytes {
  const uint8_t* data;
  size_t count;
};
Bytes bytesUpTo(const Info& info, size_t at, size_t most) {
  uint8_t* data = bytesAt(info, at, 0);
  const size_t count = info[at].As<Napi::TypedArray>().ByteLength();
  if (count > most)
    throw Error(ErrorKind::kBadArgument,
                std::to_string(count) + " bytes, and " + std::to_string(most) + " is the most");
  return {data, count};
}

const char* nameOf(Fabric::EventKind kind) {
  switch (kind) {
    case Fabric::EventKind::kConnectRequest: return "connectRequest";
    case Fabric::EventKind::kConnected: return "connected";
    case Fabric::EventKind::kRefused: return "refused";
    case Fabric::EventKind::kUnreachable: return "unreachable";
    case Fabric::EventKind::kDisconnected: return "disconnected";
    case Fabric::EventKind::kMessage: return "message";
  }
  return "unknown";
}

// A fabric with an event loop, as the donor has one.
struct Server : Fabric::Sink {
  struct Chunk {
    Server* server;
    uint32_t id;
    std::unique_ptr<Memory> memory;
    bool busy = false;  // a scrub runs in another thread
    bool free = false;
  };

  Napi::Env env;
  std::unique_ptr<Fabric> fabric;
  std::unique_ptr<Memory> arena;
  std::vector<std::pair<uint32_t, int>> finished;
  Napi::FunctionReference callback;
  uv_poll_t poll{};
  uv_async_t again{};
  int open = 0;  // handles of libuv: the fabric may go when they are closed
  bool ended = false;
  std::map<uint32_t, std::unique_ptr<Chunk>> chunks;
  uint32_t nextChunk = 1;

  explicit Server(Napi::Env environment) : env(environment) {}

  void completed(uint32_t token, int error) override { finished.emplace_back(token, error); }

  // What has been asked of the fabric may have made events at once, and connections that nobody has armed.
  void nudge() {
    if (open && !ended) uv_async_send(&again);
  }

  void run() {
    if (ended || callback.IsEmpty()) return;
    Napi::HandleScope scope(env);
    for (int round = 0; round < kRounds; round++) {
      fabric->poll(this);
      try {
        // Through the loop's door, so that promises settled in it are followed up.
        callback.MakeCallback(env.Global(), {});
      } catch (const Napi::Error& error) { napi_fatal_exception(env, error.Value()); }
      if (ended || !fabric->arm()) return;
    }
    nudge();
  }

  void watch(Napi::Function function) {
    if (open) throw Error(ErrorKind::kBadArgument, "the fabric is watched already");
    uv_loop_t* loop = nullptr;
    if (napi_get_uv_event_loop(env, &loop) != napi_ok) throw Error(ErrorKind::kFailed, "there is no event loop");
    poll.data = again.data = this;
    if (int error = uv_poll_init(loop, &poll, fabric->fd()))
      throw Error(ErrorKind::kFailed, "cannot watch the fabric", -error);
    open++;
    if (int error =
            uv_async_init(loop, &again, [](uv_async_t* handle) { static_cast<Server*>(handle->data)->run(); })) {
      throw Error(ErrorKind::kFailed, "cannot watch the fabric", -error);
    }
    open++;
    callback = Napi::Persistent(function);
    uv_poll_start(&poll, UV_READABLE, [](uv_poll_t* handle, int, int) { static_cast<Server*>(handle->data)->run(); });
    nudge();
  }

  void end() {
    if (ended) return;
    ended = true;
    callback.Reset();
    if (!open) return fabric.reset();
    uv_poll_stop(&poll);
    auto closed = [](uv_handle_t* handle) {
      auto* server = static_cast<Server*>(handle->data);
      if (--server->open == 0) server->fabric.reset();
    };
    uv_close(reinterpret_cast<uv_handle_t*>(&poll), closed);
    uv_close(reinterpret_cast<uv_handle_t*>(&again), closed);
  }
};

// What a function works on. The engine's fabric has no server: whoever polls it sees what happened.
struct Door {
  Fabric* fabric;
  Server* server;

  Fabric& open() const {
    if (server && server->ended) throw Error(ErrorKind::kBadArgument, "the fabric has been ended");
    return *fabric;
  }
  void nudge() const {
    if (server) server->nudge();
  }
};

const Door& doorOf(const Info& info) { return *static_cast<Door*>(info.Data()); }
Fabric& fabricOf(const Info& info) { return doorOf(info).open(); }
Server& serverOf(const Info& info) { return fabricOf(info), *doorOf(info).server; }

Napi::Value connect(const Info& info) {
  Bytes hello = bytesUpTo(info, 2, kMaxHello);
  uint32_t connection = fabricOf(info).connect(textAt(info, 0), portAt(info, 1), hello.data, hello.count,
                                               static_cast<int>(numberAt(info, 3)));
  doorOf(info).nudge();
  return number(info, connection);
}

Napi::Value send(const Info& info) {
  Bytes message = bytesUpTo(info, 1, UINT16_MAX);
  bool sent = fabricOf(info).send(indexAt(info, 0), message.data, message.count);
  doorOf(info).nudge();
  return boolean(info, sent);
}

Napi::Value close(const Info& info) {
  fabricOf(info).close(indexAt(info, 0));
  doorOf(info).nudge();
  return undefined(info);
}

Napi::Value takeEvents(const Info& info) {
  auto result = Napi::Array::New(info.Env());
  Fabric::Event event;
  for (uint32_t i = 0; fabricOf(info).nextEvent(&event); i++) {
    auto data = Napi::Uint8Array::New(info.Env(), event.data.size());
    std::copy(event.data.begin(), event.data.end(), data.Data());
    result[i] = object(info, {{"kind", text(info, nameOf(event.kind))},
                              {"connection", number(info, event.connection)},
                              {"peer", text(info, event.peer)},
                              {"error", number(info, event.error)},
                              {"reason", text(info, event.text)},
                              {"data", data}});
  }
  return result;
}

// ---- the donor's side

Napi::Value listenOn(const Info& info) {
  fabricOf(info).listen(textAt(info, 0), portAt(info, 1));
  doorOf(info).nudge();
  return undefined(info);
}

Napi::Value accept(const Info& info) {
  Bytes data = bytesUpTo(info, 1, kMaxWelcome);
  fabricOf(info).accept(indexAt(info, 0), data.data, data.count);
  doorOf(info).nudge();
  return undefined(info);
}

Napi::Value reject(const Info& info) {
  Bytes data = bytesUpTo(info, 1, kMaxRefusal);
  fabricOf(info).reject(indexAt(info, 0), data.data, data.count);
  return undefined(info);
}

Server::Chunk& chunkOf(const Info& info) {
  auto& chunk = *static_cast<Server::Chunk*>(info.Data());
  if (!chunk.memory || chunk.free) throw Error(ErrorKind::kBadArgument, "this memory has been freed");
  return chunk;
}

Napi::Value expose(const Info& info) {
  Server& server = serverOf(info);
  if (!info[1].IsObject()) throw Error(ErrorKind::kBadArgument, "expected memory");
  auto at = server.chunks.find(info[1].As<Napi::Object>().Get("id").ToNumber().Uint32Value());
  if (at == server.chunks.end() || !at->second->memory) throw Error(ErrorKind::kBadArgument, "there is no such memory");
  Memory& memory = *at->second->memory;
  Fabric::Exposure exposure = server.fabric->expose(indexAt(info, 0), memory.base(), memory.bytes());
  return object(info, {{"id", number(info, exposure.id)},
                       {"rkey", number(info, exposure.rkey)},
                       {"address", Napi::BigInt::New(info.Env(), exposure.address)}});
}

Napi::Value withdraw(const Info& info) { return fabricOf(info).withdraw(indexAt(info, 0)), undefined(info); }

class Scrub : public Napi::AsyncWorker {
 public:
  Scrub(Napi::Env env, Server::Chunk& chunk) : Napi::AsyncWorker(env), chunk_(chunk), deferred_(env) {
    chunk_.busy = true;
  }
  Napi::Promise promise() { return deferred_.Promise(); }
  void Execute() override { error_ = chunk_.memory->scrub(); }
  void OnOK() override {
    chunk_.busy = false;
    if (chunk_.free) chunk_.memory.reset();
    if (error_) {
      deferred_.Reject(thrown(Env(), Error(ErrorKind::kMemory, "the machine has not enough memory", error_)).Value());
    } else {
      deferred_.Resolve(Env().Undefined());
    }
  }

 private:
  Server::Chunk& chunk_;
  Napi::Promise::Deferred deferred_;
  int error_ = 0;
};

Napi::Value scrub(const Info& info) {
  Server::Chunk& chunk = chunkOf(info);
  if (chunk.busy) throw Error(ErrorKind::kBadArgument, "this memory is being scrubbed");
  auto* worker = new Scrub(info.Env(), chunk);
  Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

Napi::Value freeMemory(const Info& info) {
  Server::Chunk& chunk = chunkOf(info);
  chunk.free = true;
  if (!chunk.busy) chunk.memory.reset();
  return undefined(info);
}

Napi::Value memory(const Info& info) {
  Server& server = serverOf(info);
  bool huge = info[1].IsObject() && info[1].As<Napi::Object>().Get("huge").ToBoolean();
  auto chunk = std::make_unique<Server::Chunk>(
      Server::Chunk{&server, server.nextChunk++, std::make_unique<Memory>(wideAt(info, 0), huge)});
  auto result = object(info, {{"id", number(info, chunk->id)},
                              {"bytes", number(info, static_cast<double>(chunk->memory->bytes()))},
                              {"huge", boolean(info, chunk->memory->isHuge())}})
                    .As<Napi::Object>();
  define<scrub>(result, "scrub", chunk.get());
  define<freeMemory>(result, "free", chunk.get());
  server.chunks[chunk->id] = std::move(chunk);
  return result;
}

Napi::Value watch(const Info& info) {
  if (!info[0].IsFunction()) throw Error(ErrorKind::kBadArgument, "expected a function");
  return serverOf(info).watch(info[0].As<Napi::Function>()), undefined(info);
}

Napi::Value end(const Info& info) { return doorOf(info).server->end(), undefined(info); }

// ---- one-sided operations without an engine: a probe of a donor

Napi::Value post(const Info& info) {
  Server& server = serverOf(info);
  const uint64_t offset = wideAt(info, 3), bytes = wideAt(info, 4);
  if (!server.arena || offset > server.arena->bytes() || bytes > server.arena->bytes() - offset)
    throw Error(ErrorKind::kBadArgument, "outside the arena");
  if (!info[5].IsBigInt()) throw Error(ErrorKind::kBadArgument, "expected an address");
  bool lossless;
  const uint64_t remote = info[5].As<Napi::BigInt>().Uint64Value(&lossless);
  const bool queued =
      server.fabric->post(indexAt(info, 0), info[1].ToBoolean(), indexAt(info, 2), server.arena->base() + offset,
                          static_cast<uint32_t>(bytes), remote, indexAt(info, 6));
  server.fabric->ring();
  server.nudge();
  return boolean(info, queued);
}

Napi::Value takeCompletions(const Info& info) {
  Server& server = serverOf(info);
  auto result = Napi::Array::New(info.Env());
  for (uint32_t i = 0; i < server.finished.size(); i++) {
    result[i] = object(
        info, {{"token", number(info, server.finished[i].first)}, {"error", number(info, server.finished[i].second)}});
  }
  server.finished.clear();
  return result;
}

Napi::Value createFabric(const Info& info) {
  FabricOptions options;
  size_t arenaBytes = 0;
  if (info[0].IsObject()) {
    auto from = info[0].As<Napi::Object>();
    auto set = [&from](const char* name, auto& value) {
      if (from.Get(name).IsNumber())
        value = static_cast<std::remove_reference_t<decltype(value)>>(from.Get(name).ToNumber().Int64Value());
    };
    set("messageBytes", options.messageBytes);
    set("messages", options.messages);
    set("contexts", options.contexts);
    set("arenaBytes", arenaBytes);
  }
  auto fresh = std::make_unique<Server>(info.Env());
  fresh->fabric = std::make_unique<Fabric>(options);
  if (arenaBytes) {
    fresh->arena = std::make_unique<Memory>(arenaBytes, false);
    fresh->fabric->setArena(fresh->arena->base(), arenaBytes);
  }
  // Lives until the process ends, as engines do: functions of JavaScript point to it. What is large in it goes with
  // end() and free().
  auto* server = fresh.release();
  auto* door = new Door{server->fabric.get(), server};
  auto result = Napi::Object::New(info.Env());
  define<connect>(result, "connect", door);
  define<send>(result, "send", door);
  define<close>(result, "close", door);
  define<takeEvents>(result, "takeEvents", door);
  define<listenOn>(result, "listen", door);
  define<accept>(result, "accept", door);
  define<reject>(result, "reject", door);
  define<expose>(result, "expose", door);
  define<withdraw>(result, "withdraw", door);
  define<memory>(result, "memory", door);
  define<watch>(result, "watch", door);
  define<end>(result, "end", door);
  define<post>(result, "post", door);
  define<takeCompletions>(result, "takeCompletions", door);
  if (arenaBytes) result.Set("arena", view(info, server->arena->base(), arenaBytes));
  return result;
}

Napi::Value rdma(const Info& info) {
#ifdef LEAP_RDMA
  const bool built = true;
#else
  const bool built = false;
#endif
  auto devices = Napi::Array::New(info.Env());
  uint32_t at = 0;
  for (const Fabric::Device& device : Fabric::devices()) {
    devices[at++] = object(info, {{"name", text(info, device.name)},
                                  {"port", number(info, device.port)},
                                  {"state", text(info, device.state)},
                                  {"linkLayer", text(info, device.linkLayer)},
                                  {"activeMtu", number(info, device.activeMtu)},
                                  {"maxReads", number(info, device.maxReads)},
                                  {"maxWorkRequests", number(info, device.maxWorkRequests)}});
  }
  return object(info, {{"built", boolean(info, built)}, {"why", text(info, Fabric::whyNot())}, {"devices", devices}});
}

}  // namespace

void defineFabric(Napi::Object target, Fabric* fabric) {
  auto* door = new Door{fabric, nullptr};  // for the functions, which may outlive the object: until the process ends
  define<connect>(target, "connect", door);
  define<send>(target, "send", door);
  define<close>(target, "close", door);
  define<takeEvents>(target, "takeEvents", door);
}

void defineFabricExports(Napi::Object exports) {
  define<createFabric>(exports, "createFabric");
  define<rdma>(exports, "rdma");
}

}  // namespace leap
