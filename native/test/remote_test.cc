// Chunks on a donor, over a real RDMA device: run.sh runs this only where there is one. The donor's end is polled
// between the client's calls.
//   remote_test [ADDRESS]    an address on the device; 10.9.0.1 by default
#include "rdma/remote.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <map>

#include "expect.h"

using namespace leap;
using Kind = Fabric::EventKind;

namespace {

const char* address = "10.9.0.1";
uint16_t port = 9700;
constexpr uint32_t kFrames = 256, kSlots = 64;  // a chunk of 256 KiB

// A donor with memory for four chunks, a client that is connected to it, and what has been answered.
struct World : Remote::Sink {
  Fabric donor{FabricOptions{}};
  FabricOptions few;
  Fabric client;
  Frames frames{kFrames, 1};
  Remote remote{client, frames};
  uint8_t* chunks = static_cast<uint8_t*>(
      mmap(nullptr, size_t{4} * kSlots * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  uint32_t connection = 0;
  Fabric::Exposure exposure{};
  std::map<uint32_t, int> answers;  // by frame
  uint32_t answered = 0;

  explicit World(uint32_t contexts = 256) : few{4096, 16, contexts}, client(few) {
    client.setArena(frames.at(0), size_t{kFrames} * kPageSize);
    donor.listen(address, ++port);
    remote.setChunk(kSlots);
    connection = client.connect(address, port, nullptr, 0, 5000);
    uint32_t there = 0;
    Fabric::Event event;
    bool up = false, upThere = false;
    EXPECT(wait([&] {
      while (donor.nextEvent(&event)) {
        if (event.kind == Kind::kConnectRequest) donor.accept(there = event.connection, nullptr, 0);
        upThere = upThere || event.kind == Kind::kConnected;
      }
      while (client.nextEvent(&event)) up = up || event.kind == Kind::kConnected;
      return up && upThere;
    }));
    exposure = donor.expose(there, chunks, size_t{4} * kSlots * kPageSize);
  }
  ~World() override { munmap(chunks, size_t{4} * kSlots * kPageSize); }

  void done(const Remote::Request& request, int error) override {
    answered++;
    answers[request.frame] = error;
  }
  template <typename Until>
  bool wait(Until until) {
    for (const time_t end = time(nullptr) + 20; time(nullptr) < end; usleep(200)) {
      donor.poll(nullptr);
      remote.harvest(1000, 1000, *this);
      if (until()) return true;
    }
    return false;
  }
  bool map(uint32_t replica, uint32_t chunk, uint32_t at) {
    return remote.map(replica, chunk, connection, exposure.rkey, exposure.address + size_t{at} * kSlots * kPageSize);
  }
  bool drain() {
    remote.flush(500);
    return wait([&] { return remote.idle(); });
  }
};

void pages() {
  World world;
  EXPECT(world.map(0, 0, 1) && world.map(1, 0, 2) && world.map(0, 1, 3));
  for (uint32_t frame = 0; frame < 64; frame++) memset(world.frames.at(frame), static_cast<int>(frame + 1), kPageSize);
  EXPECT(world.remote.request({true, 0, 8, 0, 16}));   // slots 8.. of chunk 0, first replica
  EXPECT(world.remote.request({true, 1, 8, 16, 16}));  // the same slots, second replica
  EXPECT(world.remote.request({true, 0, kSlots + 3, 40, 1}));
  EXPECT(world.drain() && world.answered == 3 && world.answers[0] == 0 && world.answers[16] == 0 &&
         world.answers[40] == 0);
  const auto at = [&](uint32_t chunk, uint32_t slot) {
    return world.chunks[(size_t{chunk} * kSlots + slot) * kPageSize];
  };
  EXPECT(at(1, 8) == 1 && at(1, 23) == 16 && at(1, 7) == 0 && at(1, 24) == 0 && at(2, 8) == 17 && at(3, 3) == 41 &&
         at(0, 8) == 0);
  EXPECT(world.remote.request({false, 0, 10, 100, 4}));
  EXPECT(world.drain() && world.answers[100] == 0 && *world.frames.at(100) == 3 && *world.frames.at(103) == 6);
  const Remote::Traffic* traffic = world.remote.traffic(world.connection);
  EXPECT(traffic && traffic->reads == 4 && traffic->writes == 33 && traffic->readLatency.count() == 1);
}

void refusals() {
  World world;
  EXPECT(world.map(0, 0, 0));
  EXPECT(!world.remote.request({false, 0, kSlots - 1, 0, 2}));  // crosses the edge of a chunk
  EXPECT(!world.remote.request({false, 0, 5 * kSlots, 0, 1}));  // a chunk that was never mapped
  EXPECT(!world.remote.request({false, 2, 0, 0, 1}));           // there are two replicas
  EXPECT(!world.remote.map(2, 0, world.connection, 1, 0) && !world.remote.map(0, 0, 0, 1, 0));
}

void unmapped() {
  World world;
  EXPECT(world.map(0, 0, 0));
  EXPECT(world.remote.request({true, 0, 0, 0, 1}));  // still in line
  EXPECT(world.remote.request({true, 0, 1, 1, 1}));
  world.remote.flush(500);  // on its way, perhaps there
  EXPECT(world.remote.request({true, 0, 2, 2, 1}));
  world.remote.unmap(0, 0);
  EXPECT(world.remote.request({true, 0, 3, 3, 1}));  // there is nobody for it any more
  EXPECT(world.map(0, 0, 1));                        // mapped elsewhere: what went to the place before is no copy here
  EXPECT(world.remote.request({true, 0, 4, 4, 1}));
  EXPECT(world.drain() && world.answered == 5);
  for (uint32_t frame = 0; frame < 4; frame++) EXPECT(world.answers[frame] == ECANCELED);
  EXPECT(world.answers[4] == 0);
}

void fullPool() {
  World world(4);
  EXPECT(world.map(0, 0, 0));
  for (uint32_t frame = 0; frame < kSlots; frame++) {
    memset(world.frames.at(frame), static_cast<int>(frame + 1), kPageSize);
    EXPECT(world.remote.request({true, 0, frame, frame, 1}));
  }
  EXPECT(world.drain() && world.answered == kSlots);
  for (uint32_t frame = 0; frame < kSlots; frame++)
    EXPECT(world.answers[frame] == 0 && world.chunks[size_t{frame} * kPageSize] == frame + 1);
}

void closed() {
  World world(4);
  EXPECT(world.map(0, 0, 0));
  for (uint32_t frame = 0; frame < 16; frame++) EXPECT(world.remote.request({true, 0, frame, frame, 1}));
  world.remote.flush(500);
  world.client.close(world.connection);
  EXPECT(world.drain() && world.answered == 16);
  uint32_t failed = 0;
  for (const auto& [frame, error] : world.answers) failed += error != 0;
  EXPECT(failed >= 12);  // what waited for a context at least
}

void latencies() {
  LatencyHistogram histogram;
  EXPECT(histogram.quantile(0.5) == 0);
  for (int64_t ns = 1000; ns <= 100000; ns += 1000) histogram.record(ns);
  EXPECT(histogram.quantile(0.5) >= 50000 && histogram.quantile(0.5) <= 62500);
  EXPECT(histogram.quantile(0.99) >= 99000 && histogram.quantile(0.99) <= 125000);
  histogram.record(-5);
  histogram.record(0);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) address = argv[1];
  using leap::testing::run;
  run("remote pages to two replicas and back", pages);
  run("remote what is no good is refused", refusals);
  run("remote unmapped replicas answer ECANCELED", unmapped);
  run("remote full pool", fullPool);
  run("remote connection closed", closed);
  run("remote latencies", latencies);
  return leap::testing::failed;
}
