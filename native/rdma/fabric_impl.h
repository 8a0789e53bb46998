// The private side of a Fabric, for its own files alone; only where there are RDMA headers.
#pragma once
#include <rdma/rdma_cma.h>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "rdma/fabric.h"

namespace leap {

struct Fabric::Impl {
  // A packet that is not acknowledged is sent again after 4.096 us * 2^16 = 0.27 s, seven times: a peer whose machine
  // is gone is found out after about 2 s. The connection manager's own choice is minutes. (A peer that only dies says
  // so: its kernel closes the connection.)
  static constexpr uint8_t kAckTimeout = 16;
  static constexpr uint8_t kRetries = 7;
  // A message that finds no receive buffer is sent again after 61 ms (25), six times; 7 would be for ever, and the
  // connection manager's timer (0) is 0.66 s. All buffers are full only where the peer's loop has been held up, by the
  // registration of a chunk for instance.
  static constexpr uint8_t kRnrTimer = 25;
  static constexpr uint8_t kRnrRetries = 6;
  static constexpr int kCompletions = 64;  // taken at a time

  enum class Tag : uint32_t { kChannel = 1, kTimer, kDevice, kCompletion };
  enum class State { kResolving, kConnecting, kRequested, kAccepting, kConnected, kOver };

  struct Device {
    ibv_context* verbs;
    ibv_device_attr limits{};
    ibv_pd* pd = nullptr;  // of the client's side, shared by its connections
    ibv_mr* arena = nullptr;
    uint32_t users = 0;
  };

  struct Link {
    uint32_t number;
    State state;
    rdma_cm_id* id;
    Device* device = nullptr;
    ibv_pd* pd = nullptr;  // the device's, or ours alone
    bool server = false;
    ibv_comp_channel* channel = nullptr;
    ibv_cq* cq = nullptr;
    bool armed = false;
    uint32_t unacknowledged = 0;
    std::string peer;
    int64_t deadlineNs = 0;  // 0: none
    std::vector<uint8_t> hello;
    uint8_t peerReads = 0;
    uint32_t inlineBytes = 0;
    // Receive buffers, then send buffers.
    uint8_t* buffers = nullptr;
    ibv_mr* buffersKey = nullptr;
    std::vector<uint32_t> freeSends;
    // One-sided operations: a work request, its piece of memory and the caller's token each.
    std::vector<ibv_send_wr> requests;
    std::vector<ibv_sge> pieces;
    std::vector<uint32_t> tokens;
    std::vector<bool> busy;
    std::vector<uint32_t> freeContexts;
    ibv_send_wr *first = nullptr, *last = nullptr;  // queued, not handed over yet
    std::vector<ibv_wc> early;                      // found by arm()
    Counters counters;
  };

  struct Shown {
    uint32_t connection;
    ibv_mr* key;
  };

  FabricOptions options;
  uint8_t* arena = nullptr;
  size_t arenaBytes = 0;
  int poller = -1, timer = -1;
  rdma_event_channel* channel = nullptr;
  std::vector<rdma_cm_id*> listeners;
  std::vector<std::unique_ptr<Device>> devices;
  std::map<uint32_t, std::unique_ptr<Link>> links;
  std::map<uint32_t, Shown> shown;
  std::vector<ibv_context*> removed;  // devices that the kernel takes away
  std::deque<Event> events;
  std::vector<std::pair<uint32_t, int>> finished;  // token, error
  uint32_t nextConnection = 1, nextExposure = 1, inFlight = 0;
  bool lookDue = true;
  int64_t lookedNs = 0;

  // ---- the whole (fabric.cc)
  explicit Impl(const FabricOptions& given);
  ~Impl();
  static int64_t nowNs();
  static void setNonBlocking(int fd);
  void watch(int fd, Tag tag, uint32_t number);
  void say(EventKind kind, const Link& link, std::string text, int error = 0, std::vector<uint8_t> data = {});
  void look(int64_t now);
  void setDeadline(Link& link, int ms);
  void setTimer();
  void endOverdue(int64_t now);

  // ---- devices (fabric_device.cc)
  Device* acquire(ibv_context* verbs);
  void giveBack(Device* device);
  void letGoOfRemoved();
  void prepareShared(Device& device);
  void takeDeviceEvents();
  static Error registering(size_t bytes, int error);

  // ---- the connection manager (fabric_cm.cc)
  void takeManagerEvents();
  void requested(rdma_cm_id* id, std::vector<uint8_t> data, uint8_t peerReads);
  void listenerGone(rdma_cm_id* id);
  void managed(Link& link, rdma_cm_event_type type, int status, std::vector<uint8_t> data);
  void request(Link& link);

  // ---- connections (fabric_connection.cc)
  Link* find(uint32_t connection);
  Link& add(rdma_cm_id* id, State state);
  void makeQueuePair(Link& link);
  void becomeConnected(Link& link, std::vector<uint8_t> data);
  void release(Link& link, int error);
  void fail(Link& link, const std::string& text, int error = EIO);

  // ---- queues (fabric_queue.cc)
  int postReceive(Link& link, uint32_t i);
  void complete(Link& link, uint32_t context, int error);
  bool finish(Link& link, const ibv_wc& done);
  void pollLink(Link& link);
  void takeNotices(Link& link);
};

}  // namespace leap
