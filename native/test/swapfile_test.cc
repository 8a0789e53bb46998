// The swap file with and without io_uring, with and without O_DIRECT: bytes, joining, the backlog, errors.
#include "store/swapfile.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>

#include "base/error.h"
#include "expect.h"

using namespace leap;

namespace {

constexpr uint32_t kFrames = 2048;

struct Arena {
  uint8_t* bytes = static_cast<uint8_t*>(
      mmap(nullptr, size_t{kFrames} * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ~Arena() { munmap(bytes, size_t{kFrames} * kPageSize); }
  uint8_t* at(uint32_t frame) { return bytes + size_t{frame} * kPageSize; }
};

struct Answers : SwapFile::Sink {
  std::map<uint32_t, int> bySlot;  // the first slot of each request -> its error
  void done(const SwapFile::Request& request, int error) override {
    EXPECT(bySlot.count(request.slot) == 0);
    bySlot[request.slot] = error;
  }
};

std::string directory() {
  const char* given = std::getenv("TMPDIR");
  return given ? given : "/var/tmp";
}

struct File {
  std::string path;
  Arena arena;
  std::unique_ptr<SwapFile> swap;

  explicit File(const char* name, bool ring, bool direct, const Injection& inject = {},
                const std::string& where = directory())
      : path(where + "/leap-swapfile-test-" + std::to_string(getpid()) + "-" + name) {
    unlink(path.c_str());
    SwapFileOptions options;
    options.path = path;
    options.useRing = ring;
    options.direct = direct;
    options.inject = inject;
    swap = std::make_unique<SwapFile>(options, arena.bytes, kFrames);
  }
  ~File() {
    swap.reset();
    unlink(path.c_str());
  }

  Answers drain() {
    Answers answers;
    for (int i = 0; i < 100000 && !swap->idle(); i++) {
      swap->flush();
      if (swap->harvest(4096, answers) == 0) usleep(50);
    }
    EXPECT(swap->idle());
    return answers;
  }
};

void fill(uint8_t* page, uint32_t value) {
  for (uint32_t i = 0; i < kPageSize / sizeof value; i++) memcpy(page + i * sizeof value, &value, sizeof value);
}

bool holds(const uint8_t* page, uint32_t value) {
  uint32_t found;
  for (uint32_t i = 0; i < kPageSize / sizeof value; i++) {
    memcpy(&found, page + i * sizeof value, sizeof found);
    if (found != value) return false;
  }
  return true;
}

// Every page written through one frame order and read back through another.
void roundTrip(File& file) {
  for (uint32_t frame = 0; frame < kFrames; frame++) fill(file.arena.at(frame), 1000 + frame);
  for (uint32_t slot = 0; slot < kFrames; slot++) EXPECT(file.swap->request({true, slot, kFrames - 1 - slot, 1}));
  EXPECT(!file.swap->request({true, 0, 0, 1}));  // one request a frame is all there is room for
  Answers written = file.drain();
  EXPECT(written.bySlot.size() == kFrames);
  for (auto [slot, error] : written.bySlot) EXPECT(error == 0);
  memset(file.arena.bytes, 0, size_t{kFrames} * kPageSize);
  for (uint32_t slot = 0; slot < kFrames; slot += 4) EXPECT(file.swap->request({false, slot, slot, 4}));
  Answers read = file.drain();
  EXPECT(read.bySlot.size() == kFrames / 4);
  for (uint32_t slot = 0; slot < kFrames; slot++) EXPECT(holds(file.arena.at(slot), 1000 + kFrames - 1 - slot));
  // 2048 single-page writes and 512 reads of 4, all contiguous in the file: 64 pages an operation.
  EXPECT(file.swap->counters().operations == 2 * kFrames / kBatchPages);
  EXPECT(file.swap->counters().pagesWritten == kFrames && file.swap->counters().pagesRead == kFrames);
}

void scattered(File& file) {
  uint32_t count = 0;
  for (uint32_t slot = 1; slot < 2 * kFrames; slot += 3, count++) {
    fill(file.arena.at(count), slot);
    EXPECT(file.swap->request({true, slot, count, 1}));
  }
  EXPECT(count > 256);  // more than there are operations
  EXPECT(file.drain().bySlot.size() == count);
  memset(file.arena.bytes, 0, size_t{kFrames} * kPageSize);
  uint32_t frame = 0;
  for (uint32_t slot = 1; slot < 2 * kFrames; slot += 3) EXPECT(file.swap->request({false, slot, frame++, 1}));
  EXPECT(file.drain().bySlot.size() == count);
  frame = 0;
  for (uint32_t slot = 1; slot < 2 * kFrames; slot += 3) EXPECT(holds(file.arena.at(frame++), slot));
}

void injected() {
  Injection inject;
  inject.failWriteAfter = 2;
  inject.failReadAfter = 1;
  inject.corruptReadAfter = 0;
  File file("injected", true, true, inject);
  fill(file.arena.at(0), 7);
  for (uint32_t i = 0; i < 4; i++) file.swap->request({true, i, i, 1});
  Answers written = file.drain();
  EXPECT(written.bySlot[0] == 0 && written.bySlot[1] == 0 && written.bySlot[2] == ENOSPC &&
         written.bySlot[3] == ENOSPC);
  for (uint32_t i = 0; i < 3; i++) file.swap->request({false, i, 10 + i, 1});
  Answers read = file.drain();
  EXPECT(read.bySlot[0] == 0 && read.bySlot[1] == EIO && read.bySlot[2] == EIO);
  EXPECT(!holds(file.arena.at(10), 7));
}

void shortRead(bool ring) {
  File file("short", ring, false);
  file.swap->request({true, 0, 0, 1});
  EXPECT(file.drain().bySlot[0] == 0);
  EXPECT(truncate(file.path.c_str(), 3 * kPageSize) == 0);  // behind its back
  file.swap->request({false, 0, 0, 2});
  file.swap->request({false, 2, 2, 2});
  file.swap->request({false, 4, 4, 1});
  Answers read = file.drain();
  EXPECT(read.bySlot[0] == 0 && read.bySlot[2] == EIO && read.bySlot[4] == EIO);
}

void fileRules() {
  File file("rules", true, true);
  struct stat info {};
  EXPECT(stat(file.path.c_str(), &info) == 0 && (info.st_mode & 0777) == 0600);
  auto open = [&file](const std::string& path) {
    SwapFileOptions options;
    options.path = path;
    try {
      SwapFile again(options, file.arena.bytes, kFrames);
      return std::string();
    } catch (const Error& error) { return std::string(wordOf(error.kind)); }
  };
  file.swap->request({true, 0, 0, 1});
  file.drain();
  EXPECT(open(file.path) == "swap");  // not empty
  EXPECT(truncate(file.path.c_str(), 0) == 0);
  EXPECT(open(file.path) == "");
  EXPECT(chmod(file.path.c_str(), 0644) == 0);
  EXPECT(open(file.path) == "swap");  // others can read it
  EXPECT(open("/nonexistent/swap") == "swap");
  EXPECT(symlink(file.path.c_str(), (file.path + "-link").c_str()) == 0);
  EXPECT(open(file.path + "-link") == "swap");
  unlink((file.path + "-link").c_str());
}

}  // namespace

int main() {
  using leap::testing::run;
  for (bool ring : {true, false}) {
    for (bool direct : {true, false}) {
      std::string how = std::string(ring ? "with" : "without") + " io_uring, " + (direct ? "direct" : "buffered");
      run(("swap file round trip " + how).c_str(), [=] {
        File file("round", ring, direct);
        roundTrip(file);
      });
      run(("swap file scattered slots " + how).c_str(), [=] {
        File file("scattered", ring, direct);
        scattered(file);
      });
    }
    run(ring ? "swap file short reads with io_uring" : "swap file short reads without io_uring",
        [=] { shortRead(ring); });
  }
  run("swap file on tmpfs is synchronous", [] {
    File file("tmpfs", true, true, {}, "/dev/shm");
    EXPECT(!file.swap->usesRing() && !file.swap->isDirect());
    roundTrip(file);
  });
  run("swap file faults to order", injected);
  run("swap file is fresh and ours alone", fileRules);
  return leap::testing::failed;
}
