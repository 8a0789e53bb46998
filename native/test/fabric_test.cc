// Connections over a real RDMA device, both ends in this program: run.sh runs this only where there is one. The donor's
// end is polled between the client's calls; for its sudden death it is a process of its own.
//   fabric_test [ADDRESS]    an address on the device; 10.9.0.1 by default
#include "rdma/fabric.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <map>
#include <memory>

#include "base/error.h"
#include "expect.h"

using namespace leap;
using Kind = Fabric::EventKind;

namespace {

const char* address = "10.9.0.1";
uint16_t port = 9500;
constexpr size_t kArena = 4 << 20, kChunk = 4 << 20, kPage = 4096;

uint8_t* mapped(size_t bytes) {
  return static_cast<uint8_t*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

// The answers of operations: each token exactly once.
struct Answers : Fabric::Sink {
  std::map<uint32_t, int> byToken;
  void completed(uint32_t token, int error) override {
    EXPECT(byToken.count(token) == 0);
    byToken[token] = error;
  }
};

struct End {
  std::unique_ptr<Fabric> fabric;
  Answers answers;
  std::vector<Fabric::Event> events;

  explicit End(FabricOptions options = {}) : fabric(std::make_unique<Fabric>(options)) {}
  void look() {
    fabric->poll(&answers);
    Fabric::Event event;
    while (fabric->nextEvent(&event)) events.push_back(std::move(event));
  }
  // The first event of a kind, taken out; nullptr when there is none.
  std::unique_ptr<Fabric::Event> take(Kind kind) {
    for (auto at = events.begin(); at != events.end(); ++at) {
      if (at->kind != kind) continue;
      auto found = std::make_unique<Fabric::Event>(std::move(*at));
      events.erase(at);
      return found;
    }
    return nullptr;
  }
};

struct Pair {
  End donor, client;
  uint8_t* arena = mapped(kArena);
  uint8_t* chunk = mapped(kChunk);
  uint32_t here = 0, there = 0;  // the connection, at the client and at the donor
  Fabric::Exposure exposure{};

  explicit Pair(FabricOptions options = {}) : donor(options), client(options) {
    client.fabric->setArena(arena, kArena);
    donor.fabric->listen(address, ++port);
  }
  ~Pair() {
    client.fabric.reset();
    donor.fabric.reset();
    munmap(arena, kArena);
    munmap(chunk, kChunk);
  }

  // Sleeps on both descriptors, as the programs do: a lost wake-up makes the test fail and not just slow.
  template <typename Until>
  bool wait(Until until, int seconds = 20) {
    for (const time_t end = time(nullptr) + seconds; time(nullptr) < end;) {
      donor.look();
      client.look();
      if (until()) return true;
      const bool more = donor.fabric->arm();
      if (client.fabric->arm() || more) continue;
      pollfd descriptors[] = {{donor.fabric->fd(), POLLIN, 0}, {client.fabric->fd(), POLLIN, 0}};
      if (::poll(descriptors, 2, 5000) == 0) return until();
    }
    return false;
  }
  std::unique_ptr<Fabric::Event> await(End& end, Kind kind, int seconds = 20) {
    std::unique_ptr<Fabric::Event> found;
    wait([&] { return (found = end.take(kind)) != nullptr; }, seconds);
    return found;
  }

  bool connect() {
    const uint8_t hello[] = {'h', 'i'}, welcome[] = {'y', 'o'};
    here = client.fabric->connect(address, port, hello, sizeof hello, 5000);
    auto request = await(donor, Kind::kConnectRequest);
    if (!request) return false;
    EXPECT(request->data.size() == 56 && memcmp(request->data.data(), "hi\0", 3) == 0 && !request->peer.empty());
    there = request->connection;
    donor.fabric->accept(there, welcome, sizeof welcome);
    auto connected = await(client, Kind::kConnected);
    if (!connected || !await(donor, Kind::kConnected)) return false;
    EXPECT(connected->connection == here && memcmp(connected->data.data(), "yo\0", 3) == 0);
    return true;
  }
  void expose() { exposure = donor.fabric->expose(there, chunk, kChunk); }
  bool post(bool write, uint32_t token, size_t page, uint32_t rkey, uint32_t bytes = kPage) {
    return client.fabric->post(here, write, token, arena + page * kPage, bytes, exposure.address + page * kPage, rkey);
  }
  bool drain() {
    client.fabric->ring();
    return wait([&] { return client.fabric->inFlight() == 0; });
  }
};

void messages() {
  Pair pair;
  EXPECT(pair.connect());
  // Three times the ring in both directions; a full one says so.
  uint32_t sent = 0, got = 0, answered = 0;
  EXPECT(pair.wait([&] {
    for (; sent < 48; sent++) {
      if (!pair.client.fabric->send(pair.here, reinterpret_cast<uint8_t*>(&sent), sizeof sent)) break;
    }
    while (auto message = pair.donor.take(Kind::kMessage)) {
      uint32_t value;
      EXPECT(message->data.size() == sizeof value);
      memcpy(&value, message->data.data(), sizeof value);
      EXPECT(value == got++);
      std::vector<uint8_t> longest(4096, static_cast<uint8_t>(value));
      EXPECT(pair.donor.fabric->send(pair.there, longest.data(), longest.size()));
    }
    while (auto message = pair.client.take(Kind::kMessage)) {
      EXPECT(message->data.size() == 4096 && message->data[4095] == answered);
      answered++;
    }
    return answered == 48;
  }));
  uint8_t tooLong[4097] = {};
  EXPECT(!pair.client.fabric->send(pair.here, tooLong, sizeof tooLong));
  EXPECT(!pair.client.fabric->send(999, tooLong, 1));
}

void pages() {
  Pair pair;
  EXPECT(pair.connect());
  pair.expose();
  for (size_t page = 0; page < 64; page++) memset(pair.arena + page * kPage, static_cast<int>(page + 1), kPage);
  for (uint32_t page = 0; page < 64; page++) EXPECT(pair.post(true, page, page, pair.exposure.rkey));
  EXPECT(pair.drain());
  EXPECT(pair.client.answers.byToken.size() == 64);
  for (size_t page = 0; page < 64; page++)
    EXPECT(pair.chunk[page * kPage] == page + 1 && pair.chunk[page * kPage + 4095] == page + 1);
  memset(pair.arena, 0, kArena);
  EXPECT(pair.post(false, 100, 0, pair.exposure.rkey, 64 * kPage));  // 256 KiB in one
  EXPECT(pair.drain());
  EXPECT(pair.client.answers.byToken[100] == 0 && memcmp(pair.arena, pair.chunk, 64 * kPage) == 0);
  auto counters = pair.client.fabric->counters(pair.here);
  EXPECT(counters.writes == 64 && counters.reads == 1 && counters.doorbells == 2 && counters.poolEmpty == 0);
}

void fullPool() {
  FabricOptions options;
  options.contexts = 8;
  Pair pair(options);
  EXPECT(pair.connect());
  pair.expose();
  for (uint32_t i = 0; i < 8; i++) EXPECT(pair.post(true, i, i, pair.exposure.rkey));
  EXPECT(!pair.post(true, 8, 8, pair.exposure.rkey));
  EXPECT(pair.client.fabric->inFlight() == 8 && pair.client.fabric->counters(pair.here).poolEmpty == 1);
  EXPECT(pair.drain());
  EXPECT(pair.post(true, 8, 8, pair.exposure.rkey));
  EXPECT(pair.drain() && pair.client.answers.byToken.size() == 9);
}

// A wrong key, a withdrawn one, and beyond the end: the operation fails, the memory is untouched, the connection is
// over at both ends.
void outOfBounds(int which) {
  Pair pair;
  EXPECT(pair.connect());
  pair.expose();
  EXPECT(pair.post(true, 1, 1, pair.exposure.rkey) && pair.drain() && pair.client.answers.byToken[1] == 0);
  uint32_t rkey = pair.exposure.rkey;
  if (which == 0) rkey ^= 0x5500;
  if (which == 1) pair.donor.fabric->withdraw(pair.exposure.id);
  if (which == 2) pair.exposure.address += kChunk;
  memset(pair.arena, 0xee, kArena);
  for (uint32_t i = 2; i < 20; i++) EXPECT(pair.post(i % 2, i, i, rkey));
  EXPECT(pair.drain());
  EXPECT(pair.client.answers.byToken.size() == 19);
  for (uint32_t i = 2; i < 20; i++) EXPECT(pair.client.answers.byToken[i] == EIO);
  for (size_t page = 2; page < 20; page++) EXPECT(pair.chunk[page * kPage] == 0);
  EXPECT(pair.await(pair.client, Kind::kDisconnected) != nullptr);
  EXPECT(pair.await(pair.donor, Kind::kDisconnected) != nullptr);
  EXPECT(!pair.post(true, 30, 0, pair.exposure.rkey));
}

void closeWithWork(bool atClient) {
  Pair pair;
  EXPECT(pair.connect());
  pair.expose();
  for (uint32_t i = 0; i < 200; i++) EXPECT(pair.post(i % 2, i, i, pair.exposure.rkey));
  pair.client.fabric->ring();
  for (uint32_t i = 200; i < 250; i++)
    EXPECT(pair.post(true, i, i, pair.exposure.rkey));  // queued, and never handed over
  if (atClient) {
    pair.client.fabric->close(pair.here);
  } else {
    pair.donor.fabric->close(pair.there);
    EXPECT(pair.await(pair.client, Kind::kDisconnected) != nullptr);
  }
  pair.client.look();
  EXPECT(pair.client.answers.byToken.size() == 250 && pair.client.fabric->inFlight() == 0);
  EXPECT(pair.client.answers.byToken[249] == (atClient ? ECANCELED : EIO));
  for (auto [token, error] : pair.client.answers.byToken) EXPECT(error == 0 || error == (atClient ? ECANCELED : EIO));
  if (atClient) {
    EXPECT(pair.await(pair.donor, Kind::kDisconnected) != nullptr);
    EXPECT(pair.client.events.empty());
  }
  EXPECT(pair.connect());  // another one, to the same listener
}

void refusals() {
  Pair pair;
  pair.client.fabric->connect(address, port, nullptr, 0, 5000);
  auto request = pair.await(pair.donor, Kind::kConnectRequest);
  EXPECT(request && request->data.empty());
  if (request) pair.donor.fabric->reject(request->connection, reinterpret_cast<const uint8_t*>("no"), 2);
  auto refused = pair.await(pair.client, Kind::kRefused);
  EXPECT(refused && refused->data.size() >= 2 && memcmp(refused->data.data(), "no\0", 3) == 0);
  // Nobody listens; nobody is there; nobody answers.
  pair.client.fabric->connect(address, 9499, nullptr, 0, 5000);
  auto nobody = pair.await(pair.client, Kind::kUnreachable);
  EXPECT(nobody && nobody->error == ECONNREFUSED);
  pair.client.fabric->connect("192.0.2.1", 9499, nullptr, 0, 1000);
  EXPECT(pair.await(pair.client, Kind::kUnreachable) != nullptr);
  pair.client.fabric->connect(address, port, nullptr, 0, 1000);
  auto late = pair.await(pair.client, Kind::kUnreachable);
  EXPECT(late && late->error == ETIMEDOUT);
  // What cannot be listened on.
  auto kindOf = [&](const char* where, uint16_t at) {
    try {
      pair.donor.fabric->listen(where, at);
      return std::string("none");
    } catch (const Error& error) { return std::string(error.what()); }
  };
  EXPECT(kindOf(address, port).find("in use") != std::string::npos);
  EXPECT(kindOf("192.0.2.1", 9500) != "none");
  EXPECT(kindOf("localhost", 9500).find("numeric") != std::string::npos);
}

// More requests than are kept: the others are turned away, and those that are kept still work.
void flood() {
  Pair pair;
  for (int i = 0; i < 100; i++) pair.client.fabric->connect(address, port, nullptr, 0, 15000);
  uint32_t turnedAway = 0, requests = 0;
  std::vector<uint32_t> asked;
  EXPECT(pair.wait(
      [&] {
        while (pair.client.take(Kind::kRefused)) turnedAway++;
        while (auto request = pair.donor.take(Kind::kConnectRequest)) asked.push_back(request->connection), requests++;
        return turnedAway + requests == 100;
      },
      60));
  EXPECT(requests == 64 && turnedAway == 36);
  for (uint32_t connection : asked) pair.donor.fabric->reject(connection, nullptr, 0);
  EXPECT(pair.connect());
}

// A donor that is a process of its own: shows a chunk to whoever comes, and says where in its first message.
int donorProcess() {
  End donor;
  uint8_t* chunk = mapped(kChunk);
  donor.fabric->listen(address, port);
  if (write(STDOUT_FILENO, "x", 1) != 1) return 1;
  for (int i = 0; i < 30000; i++) {
    donor.look();
    if (auto request = donor.take(Kind::kConnectRequest)) donor.fabric->accept(request->connection, nullptr, 0);
    if (auto connected = donor.take(Kind::kConnected)) {
      Fabric::Exposure exposure = donor.fabric->expose(connected->connection, chunk, kChunk);
      donor.fabric->send(connected->connection, reinterpret_cast<uint8_t*>(&exposure), sizeof exposure);
    }
    usleep(1000);
  }
  return 0;
}

// It is killed while pages are written to it.
void killedPeer() {
  int ready[2];
  EXPECT(pipe2(ready, O_CLOEXEC) == 0);
  const std::string where = std::to_string(++port);
  pid_t child = fork();
  if (child == 0) {
    dup2(ready[1], STDOUT_FILENO);
    execl("/proc/self/exe", "fabric_test", address, where.c_str(), static_cast<char*>(nullptr));
    _exit(127);
  }
  char byte;
  EXPECT(read(ready[0], &byte, 1) == 1);
  Pair pair;
  pair.here = pair.client.fabric->connect(address, static_cast<uint16_t>(std::stoi(where)), nullptr, 0, 5000);
  auto message = pair.await(pair.client, Kind::kMessage);
  EXPECT(message && message->data.size() == sizeof pair.exposure);
  if (message) memcpy(&pair.exposure, message->data.data(), sizeof pair.exposure);
  uint32_t token = 0;
  const time_t begin = time(nullptr);
  for (bool killed = false; pair.client.take(Kind::kDisconnected) == nullptr && time(nullptr) < begin + 20;) {
    while (pair.post(token % 2, token, token % 256, pair.exposure.rkey)) token++;
    pair.client.fabric->ring();
    if (!killed && token > 1000) kill(child, SIGKILL), killed = true;
    pair.client.look();
  }
  EXPECT(time(nullptr) < begin + 10);
  EXPECT(token > 1000 && pair.client.answers.byToken.size() == token && pair.client.fabric->inFlight() == 0);
  EXPECT(pair.client.answers.byToken[token - 1] == EIO);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  ::close(ready[0]);
  ::close(ready[1]);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) address = argv[1];
  if (argc > 2) {
    port = static_cast<uint16_t>(std::stoi(argv[2]));
    return donorProcess();
  }
  using leap::testing::run;
  run("fabric messages both ways, more than there are buffers", messages);
  run("fabric pages written and read back", pages);
  run("fabric full pool says so", fullPool);
  run("fabric wrong key", [] { outOfBounds(0); });
  run("fabric withdrawn key", [] { outOfBounds(1); });
  run("fabric beyond the end of a chunk", [] { outOfBounds(2); });
  run("fabric closed with operations in flight", [] { closeWithWork(true); });
  run("fabric closed by the peer with operations in flight", [] { closeWithWork(false); });
  run("fabric refusals", refusals);
  run("fabric flood of requests", flood);
  run("fabric peer killed", killedPeer);
  return leap::testing::failed;
}
