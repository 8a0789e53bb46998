#include "fabric.h"

#include "error.h"

#ifndef LEAP_RDMA

namespace leap {

namespace {
constexpr char kNotBuilt[] = "built without RDMA: install librdmacm-dev and libibverbs-dev, then: npm run build";
}

struct Fabric::Impl {};

std::string Fabric::whyNot() { return kNotBuilt; }
std::vector<Fabric::Device> Fabric::devices() { return {}; }
// Nobody ever has one of these: the constructor throws.
Fabric::Fabric(const FabricOptions&) { throw Error("rdma", kNotBuilt); }
Fabric::~Fabric() = default;
int Fabric::fd() const { return -1; }
void Fabric::setArena(uint8_t*, size_t) {}
void Fabric::listen(const std::string&, uint16_t) {}
uint32_t Fabric::connect(const std::string&, uint16_t, const uint8_t*, size_t, int) { return 0; }
void Fabric::accept(uint32_t, const uint8_t*, size_t) {}
void Fabric::reject(uint32_t, const uint8_t*, size_t) {}
bool Fabric::send(uint32_t, const uint8_t*, size_t) { return false; }
void Fabric::close(uint32_t) {}
Fabric::Exposure Fabric::expose(uint32_t, uint8_t*, size_t) { return {}; }
void Fabric::withdraw(uint32_t) {}
bool Fabric::post(uint32_t, bool, uint32_t, uint8_t*, uint32_t, uint64_t, uint32_t) { return false; }
void Fabric::ring() {}
void Fabric::poll(Sink*) {}
bool Fabric::arm() { return false; }
bool Fabric::nextEvent(Event*) { return false; }
bool Fabric::hasEvent() const { return false; }
bool Fabric::isConnected(uint32_t) const { return false; }
uint32_t Fabric::inFlight() const { return 0; }
Fabric::Counters Fabric::counters(uint32_t) const { return {}; }

}  // namespace leap

#else

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <rdma/rdma_cma.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <map>

namespace leap {

namespace {

// A packet that is not acknowledged is sent again after 4.096 us * 2^16 = 0.27 s, seven times: a peer whose machine is gone is found out after about
// 2 s. The connection manager's own choice is minutes. (A peer that only dies says so: its kernel closes the connection.)
constexpr uint8_t kAckTimeout = 16;
constexpr uint8_t kRetries = 7;
// A message that finds no receive buffer is sent again after 61 ms (25), six times; 7 would be for ever, and the connection manager's timer (0) is
// 0.66 s. All buffers are full only where the peer's loop has been held up, by the registration of a chunk for instance.
constexpr uint8_t kRnrTimer = 25;
constexpr uint8_t kRnrRetries = 6;
constexpr int kBacklog = 128;
constexpr uint32_t kMostRequests = 64;  // requests that have not been answered yet; more are turned away
constexpr int kAcceptMs = 5000;         // from our accept to the peer's last word
constexpr int kFatalMs = 1000;          // from a device's failure to the end of its connections
constexpr uint32_t kInlineBytes = 64;   // most messages; goes with the work request, where the device can
constexpr int kCompletions = 64;        // taken at a time
constexpr int kCompletionsAPoll = 1024; // of one connection, so that none keeps the others waiting
constexpr int64_t kLookNs = 1000000;    // how often a busy caller has the descriptors looked at
constexpr uint8_t kMostReads = 128;     // outstanding RDMA READs; 255 means something else to librdmacm
constexpr int kConsumerReject = 28;     // the peer's program said no; other reasons are its kernel's
constexpr int kNobodyListens = 8;
constexpr size_t kPage = 4096;

enum class Tag : uint32_t { kChannel = 1, kTimer, kDevice, kCompletion };
enum class Work : uint32_t { kOperation, kSend, kReceive };

uint64_t workId(Work work, uint32_t index) { return uint64_t{static_cast<uint32_t>(work)} << 32 | index; }

int64_t nowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000000000 + now.tv_nsec;
}

void setNonBlocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

std::string nameOf(const sockaddr* address) {
  char host[64] = "?", port[16] = "?";
  socklen_t bytes = address->sa_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  getnameinfo(address, bytes, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
  return address->sa_family == AF_INET6 ? "[" + std::string(host) + "]:" + port : std::string(host) + ":" + port;
}

sockaddr_storage addressOf(const std::string& text, uint16_t port) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  if (getaddrinfo(text.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) throw Error("bad-argument", text + " is no numeric address");
  sockaddr_storage result{};
  memcpy(&result, found->ai_addr, found->ai_addrlen);
  freeaddrinfo(found);
  return result;
}

// The connection manager pads with zeros to the full length, and gives all zeros for a peer that sent nothing.
std::vector<uint8_t> privateData(const rdma_conn_param& from) {
  auto* bytes = static_cast<const uint8_t*>(from.private_data);
  if (!bytes || std::all_of(bytes, bytes + from.private_data_len, [](uint8_t byte) { return byte == 0; })) return {};
  return {bytes, bytes + from.private_data_len};
}

Error registering(size_t bytes, int error) {
  std::string what = "cannot register " + std::to_string(bytes >> 10) + " KiB of memory for RDMA";
  if (error == ENOMEM || error == EAGAIN || error == EPERM) {
    const char* remedy = ": the locked-memory limit may be too low; raise it with: ulimit -l unlimited, or LimitMEMLOCK=infinity in its unit";
    return Error("memlock", what + remedy, error);
  }
  return Error("rdma", what, error);
}

}  // namespace

struct Fabric::Impl {
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

  explicit Impl(const FabricOptions& given) : options(given) {
    std::string why = whyNot();
    if (!why.empty()) throw Error("rdma", why);
    channel = rdma_create_event_channel();
    if (!channel) throw Error("rdma", "cannot open the RDMA connection manager", errno);
    setNonBlocking(channel->fd);
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (poller < 0 || timer < 0) throw Error("rdma", "no more descriptors", errno);
    watch(channel->fd, Tag::kChannel, 0);
    watch(timer, Tag::kTimer, 0);
  }

  ~Impl() {
    for (auto& [number, link] : links) release(*link, ECANCELED);
    for (rdma_cm_id* id : listeners) rdma_destroy_id(id);
    if (channel) rdma_destroy_event_channel(channel);
    if (timer >= 0) ::close(timer);
    if (poller >= 0) ::close(poller);
  }

  void watch(int fd, Tag tag, uint32_t number) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = uint64_t{static_cast<uint32_t>(tag)} << 32 | number;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0 && errno != EEXIST) throw Error("rdma", "cannot watch a descriptor", errno);
  }

  Link* find(uint32_t connection) {
    auto at = links.find(connection);
    return at == links.end() ? nullptr : at->second.get();
  }

  Link& add(rdma_cm_id* id, State state) {
    auto link = std::make_unique<Link>();
    link->number = nextConnection++;
    link->state = state;
    link->id = id;
    id->context = link.get();
    return *(links[link->number] = std::move(link));
  }

  void say(EventKind kind, const Link& link, std::string text, int error = 0, std::vector<uint8_t> data = {}) {
    events.push_back({kind, link.number, error, link.peer, std::move(text), std::move(data)});
  }

  // ---- devices

  Device* acquire(ibv_context* verbs) {
    auto at = std::find_if(devices.begin(), devices.end(), [&](const auto& each) { return each->verbs == verbs; });
    if (at == devices.end()) {
      auto device = std::make_unique<Device>();
      device->verbs = verbs;
      if (int error = ibv_query_device(verbs, &device->limits)) throw Error("rdma", "the RDMA device does not answer", error);
      setNonBlocking(verbs->async_fd);
      watch(verbs->async_fd, Tag::kDevice, 0);
      at = devices.insert(devices.end(), std::move(device));
    }
    (*at)->users++;
    return at->get();
  }

  // With its last connection a device is given back whole: the kernel waits for that when the device is to be removed.
  void giveBack(Device* device) {
    if (--device->users > 0) return;
    epoll_ctl(poller, EPOLL_CTL_DEL, device->verbs->async_fd, nullptr);
    if (device->arena) ibv_dereg_mr(device->arena);
    if (device->pd) ibv_dealloc_pd(device->pd);
    devices.erase(std::find_if(devices.begin(), devices.end(), [&](const auto& each) { return each.get() == device; }));
  }

  // The kernel waits with the removal of a device until nobody has its context open, and librdmacm keeps that open for as long as it sees no other
  // device. So when nothing of ours is on it any more its descriptors are made to lead nowhere. librdmacm closes those in its own time.
  void letGoOfRemoved() {
    auto isUsed = [this](ibv_context* verbs) {
      return std::any_of(links.begin(), links.end(), [=](auto& each) { return each.second->id && each.second->id->verbs == verbs; }) ||
             std::any_of(listeners.begin(), listeners.end(), [=](rdma_cm_id* id) { return id->verbs == verbs; });
    };
    for (auto at = removed.begin(); at != removed.end();) {
      if (isUsed(*at)) {
        ++at;
        continue;
      }
      const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
      if (nowhere < 0) return;  // tried again after the next event
      dup3(nowhere, (*at)->async_fd, O_CLOEXEC);
      dup3(nowhere, (*at)->cmd_fd, O_CLOEXEC);
      ::close(nowhere);
      at = removed.erase(at);
    }
  }

  void prepareShared(Device& device) {
    if (!device.pd && !(device.pd = ibv_alloc_pd(device.verbs))) throw Error("rdma", "cannot make a protection domain", errno);
    // Nobody reads or writes our memory from afar.
    if (!arena || device.arena) return;
    if (!(device.arena = ibv_reg_mr(device.pd, arena, arenaBytes, IBV_ACCESS_LOCAL_WRITE))) throw registering(arenaBytes, errno);
  }

  // ---- queue pairs

  void makeQueuePair(Link& link) {
    link.device = acquire(link.id->verbs);
    const ibv_device_attr& limits = link.device->limits;
    if (link.server) {
      // Of its own, and not the one that librdmacm shares: what is exposed to this peer is out of every other's reach.
      if (!(link.pd = ibv_alloc_pd(link.id->verbs))) throw Error("rdma", "cannot make a protection domain", errno);
    } else {
      prepareShared(*link.device);
      link.pd = link.device->pd;
    }
    const uint32_t messages = options.messages;
    const uint32_t most = static_cast<uint32_t>(std::min(limits.max_qp_wr, limits.max_cqe));
    if (most <= 3 * messages) throw Error("rdma", "the RDMA device has queues of " + std::to_string(most) + " entries only");
    const uint32_t contexts = link.server ? 0 : std::min(options.contexts, most - 3 * messages);

    if (!(link.channel = ibv_create_comp_channel(link.id->verbs))) throw Error("rdma", "cannot make a completion channel", errno);
    setNonBlocking(link.channel->fd);
    watch(link.channel->fd, Tag::kCompletion, link.number);
    if (!(link.cq = ibv_create_cq(link.id->verbs, static_cast<int>(contexts + 2 * messages), nullptr, link.channel, 0))) {
      throw Error("rdma", "cannot make a completion queue", errno);
    }
    ibv_qp_init_attr wanted{};
    wanted.qp_type = IBV_QPT_RC;
    wanted.send_cq = wanted.recv_cq = link.cq;
    wanted.sq_sig_all = 1;
    wanted.cap = {contexts + messages, messages, 1, 1, kInlineBytes};
    ibv_qp_init_attr attempt = wanted;
    if (rdma_create_qp(link.id, link.pd, &attempt) != 0) {
      attempt = wanted;
      attempt.cap.max_inline_data = 0;  // not every device can
      if (rdma_create_qp(link.id, link.pd, &attempt) != 0) throw Error("rdma", "cannot make a queue pair", errno);
    }
    link.inlineBytes = attempt.cap.max_inline_data;

    const size_t bytes = (size_t{2} * messages * options.messageBytes + kPage - 1) / kPage * kPage;
    if (!(link.buffers = static_cast<uint8_t*>(std::aligned_alloc(kPage, bytes)))) throw Error("rdma", "out of memory", ENOMEM);
    if (!(link.buffersKey = ibv_reg_mr(link.pd, link.buffers, bytes, IBV_ACCESS_LOCAL_WRITE))) throw registering(bytes, errno);
    for (uint32_t i = 0; i < messages; i++) {
      link.freeSends.push_back(i);
      if (int error = postReceive(link, i)) throw Error("rdma", "cannot post a receive", error);
    }
    link.requests.resize(contexts);
    link.pieces.resize(contexts);
    link.tokens.resize(contexts);
    link.busy.resize(contexts);
    for (uint32_t i = contexts; i-- > 0;) link.freeContexts.push_back(i);
    uint8_t timeout = kAckTimeout;
    rdma_set_option(link.id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout, sizeof timeout);  // Linux 5.1; before it, the manager's choice
    lookDue = true;
  }

  int postReceive(Link& link, uint32_t i) {
    ibv_sge piece{reinterpret_cast<uintptr_t>(link.buffers + size_t{i} * options.messageBytes), options.messageBytes, link.buffersKey->lkey};
    ibv_recv_wr request{}, *bad;
    request.wr_id = workId(Work::kReceive, i);
    request.sg_list = &piece;
    request.num_sge = 1;
    return ibv_post_recv(link.id->qp, &request, &bad);
  }

  void becomeConnected(Link& link, std::vector<uint8_t> data) {
    link.state = State::kConnected;
    link.deadlineNs = 0;
    ibv_qp_attr attributes{};
    attributes.min_rnr_timer = kRnrTimer;
    ibv_modify_qp(link.id->qp, &attributes, IBV_QP_MIN_RNR_TIMER);  // a device that refuses keeps the manager's
    say(EventKind::kConnected, link, "", 0, std::move(data));
    lookDue = true;
  }

  // Everything a connection holds, in the order in which one thing rests on another. The queue pair goes before operations are said to be through:
  // until then the device may still write into their memory.
  void release(Link& link, int error) {
    if (link.state == State::kOver) return;
    const bool wasUp = link.state == State::kConnected || link.state == State::kAccepting;
    if (wasUp) rdma_disconnect(link.id);
    if (link.cq) {
      for (const ibv_wc& each : link.early) finish(link, each);
      link.early.clear();
      ibv_wc done[kCompletions];
      // Bounded by the length of the queue: nothing is posted any more.
      for (int count; (count = ibv_poll_cq(link.cq, kCompletions, done)) > 0;) {
        for (int i = 0; i < count; i++) finish(link, done[i]);
      }
    }
    link.state = State::kOver;
    if (link.id->qp) rdma_destroy_qp(link.id);
    for (uint32_t i = 0; i < link.busy.size(); i++) {
      if (link.busy[i]) complete(link, i, error);
    }
    link.first = link.last = nullptr;
    for (auto at = shown.begin(); at != shown.end();) {
      if (at->second.connection == link.number) {
        ibv_dereg_mr(at->second.key);
        at = shown.erase(at);
      } else {
        ++at;
      }
    }
    if (link.buffersKey) ibv_dereg_mr(link.buffersKey);
    std::free(link.buffers);
    if (link.cq) {
      takeNotices(link);
      if (link.unacknowledged) ibv_ack_cq_events(link.cq, link.unacknowledged);
      ibv_destroy_cq(link.cq);
    }
    if (link.channel) {
      epoll_ctl(poller, EPOLL_CTL_DEL, link.channel->fd, nullptr);
      ibv_destroy_comp_channel(link.channel);
    }
    if (link.server && link.pd) ibv_dealloc_pd(link.pd);
    Device* device = link.device;
    rdma_destroy_id(link.id);
    if (device) giveBack(device);
    link.id = nullptr;
    link.buffers = nullptr;
    link.buffersKey = nullptr;
    link.cq = nullptr;
    link.channel = nullptr;
    link.pd = nullptr;
    link.device = nullptr;
    link.deadlineNs = 0;
  }

  void fail(Link& link, const std::string& text, int error = EIO) {
    if (link.state == State::kOver) return;
    const bool wasUp = link.state == State::kConnected || link.state == State::kAccepting || link.state == State::kRequested;
    release(link, EIO);  // what had been received comes before the end
    say(wasUp ? EventKind::kDisconnected : EventKind::kUnreachable, link, text, error);
  }

  void complete(Link& link, uint32_t context, int error) {
    link.busy[context] = false;
    link.freeContexts.push_back(context);
    inFlight--;
    finished.emplace_back(link.tokens[context], error);
  }

  // Returns false when the queue pair has failed.
  bool finish(Link& link, const ibv_wc& done) {
    const auto work = static_cast<Work>(done.wr_id >> 32);
    const auto index = static_cast<uint32_t>(done.wr_id);
    const bool well = done.status == IBV_WC_SUCCESS;
    switch (work) {
      case Work::kOperation:
        // A flushed one may not have been the cause; release() says ECANCELED or EIO for those.
        if (well) complete(link, index, 0);
        break;
      case Work::kSend:
        link.freeSends.push_back(index);
        break;
      case Work::kReceive:
        if (!well) break;
        // Its first message may overtake the peer's last word on the connection.
        if (link.state == State::kAccepting) becomeConnected(link, {});
        const uint8_t* bytes = link.buffers + size_t{index} * options.messageBytes;
        say(EventKind::kMessage, link, "", 0, {bytes, bytes + done.byte_len});
        return postReceive(link, index) == 0;
    }
    return well;
  }

  static std::string describe(const ibv_wc& failed) {
    const char* what = failed.opcode == IBV_WC_RECV ? "a receive" : "an operation";
    if (static_cast<Work>(failed.wr_id >> 32) == Work::kReceive) what = "a receive";
    if (static_cast<Work>(failed.wr_id >> 32) == Work::kSend) what = "a message";
    if (failed.status == IBV_WC_RETRY_EXC_ERR) return "the peer does not answer";
    if (failed.status == IBV_WC_WR_FLUSH_ERR) return "the connection broke";
    if (failed.status == IBV_WC_LOC_LEN_ERR) return "a message is longer than was agreed";
    return std::string(what) + " failed: " + ibv_wc_status_str(failed.status);
  }

  void pollLink(Link& link) {
    ibv_wc done[kCompletions];
    std::vector<ibv_wc> early;
    early.swap(link.early);
    for (const ibv_wc& each : early) {
      if (!finish(link, each)) return fail(link, describe(each));
    }
    for (int taken = 0; taken < kCompletionsAPoll;) {
      const int count = ibv_poll_cq(link.cq, kCompletions, done);
      if (count < 0) return fail(link, "the completion queue failed");
      for (int i = 0; i < count; i++) {
        if (finish(link, done[i])) continue;
        const std::string text = describe(done[i]);
        for (i++; i < count; i++) finish(link, done[i]);
        return fail(link, text);
      }
      taken += count;
      if (count < kCompletions) return;
    }
    lookDue = true;
  }

  // ---- descriptors

  void takeNotices(Link& link) {
    ibv_cq* cq;
    void* context;
    while (ibv_get_cq_event(link.channel, &cq, &context) == 0) {
      link.unacknowledged++;
      link.armed = false;
    }
  }

  void look(int64_t now) {
    lookDue = false;
    lookedNs = now;
    epoll_event ready[64];
    const int count = epoll_wait(poller, ready, 64, 0);
    if (count == 64) lookDue = true;
    for (int i = 0; i < count; i++) {
      switch (static_cast<Tag>(ready[i].data.u64 >> 32)) {
        case Tag::kChannel:
          takeManagerEvents();
          break;
        case Tag::kTimer: {
          uint64_t times;
          if (read(timer, &times, sizeof times) > 0) endOverdue(now);
          break;
        }
        case Tag::kDevice:
          takeDeviceEvents();
          break;
        case Tag::kCompletion:
          if (Link* link = find(static_cast<uint32_t>(ready[i].data.u64)); link && link->channel) takeNotices(*link);
          break;
      }
    }
  }

  void setDeadline(Link& link, int ms) {
    link.deadlineNs = nowNs() + int64_t{ms} * 1000000;
    setTimer();
  }

  void setTimer() {
    int64_t soonest = 0;
    for (auto& [number, link] : links) {
      if (link->deadlineNs && (!soonest || link->deadlineNs < soonest)) soonest = link->deadlineNs;
    }
    itimerspec when{};
    when.it_value = {soonest / 1000000000, soonest % 1000000000};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, nullptr);
  }

  void endOverdue(int64_t now) {
    for (auto& [number, link] : links) {
      if (!link->deadlineNs || link->deadlineNs > now) continue;
      fail(*link, link->state == State::kConnected ? "the RDMA device has failed" : "no answer in time", ETIMEDOUT);
    }
    setTimer();
  }

  void takeDeviceEvents() {
    for (size_t i = 0; i < devices.size(); i++) {
      ibv_context* verbs = devices[i]->verbs;
      bool gone = false;
      ibv_async_event event;
      for (int most = 256; most > 0 && ibv_get_async_event(verbs, &event) == 0; most--) {
        gone = gone || event.event_type == IBV_EVENT_DEVICE_FATAL;
        ibv_ack_async_event(&event);
      }
      if (!gone) continue;
      for (auto& [number, link] : links) {
        // Where it is being removed the connection manager says so, and that is to be seen first.
        if (link->device && link->device->verbs == verbs) setDeadline(*link, kFatalMs);
      }
    }
  }

  void takeManagerEvents() {
    rdma_cm_event* event;
    for (int most = 256; most > 0 && rdma_get_cm_event(channel, &event) == 0; most--) {
      // A copy, so that it is given back before an id is destroyed: that waits for it.
      const rdma_cm_event_type type = event->event;
      rdma_cm_id* id = event->id;
      const int status = event->status;
      const rdma_conn_param& param = event->param.conn;
      std::vector<uint8_t> data;
      const bool carries = type == RDMA_CM_EVENT_CONNECT_REQUEST || type == RDMA_CM_EVENT_ESTABLISHED || type == RDMA_CM_EVENT_REJECTED;
      if (carries) data = privateData(param);
      const uint8_t peerReads = type == RDMA_CM_EVENT_CONNECT_REQUEST ? param.responder_resources : 0;
      rdma_ack_cm_event(event);
      if (type == RDMA_CM_EVENT_DEVICE_REMOVAL && id->verbs && std::find(removed.begin(), removed.end(), id->verbs) == removed.end()) {
        removed.push_back(id->verbs);
      }
      if (type == RDMA_CM_EVENT_CONNECT_REQUEST) {
        requested(id, std::move(data), peerReads);
      } else if (id->context) {
        managed(*static_cast<Link*>(id->context), type, status, std::move(data));
      } else if (type == RDMA_CM_EVENT_DEVICE_REMOVAL) {
        listenerGone(id);
      }
    }
    letGoOfRemoved();
  }

  void requested(rdma_cm_id* id, std::vector<uint8_t> data, uint8_t peerReads) {
    const auto waiting = std::count_if(links.begin(), links.end(), [](auto& each) { return each.second->state == State::kRequested; });
    if (waiting >= kMostRequests) {
      id->context = nullptr;
      rdma_reject(id, nullptr, 0);
      rdma_destroy_id(id);
      return;
    }
    Link& link = add(id, State::kRequested);
    link.server = true;
    link.peerReads = peerReads;
    link.peer = nameOf(rdma_get_peer_addr(id));
    say(EventKind::kConnectRequest, link, "", 0, std::move(data));
  }

  void listenerGone(rdma_cm_id* id) {
    Event event{EventKind::kDisconnected, 0, ENODEV, nameOf(rdma_get_local_addr(id)), "the RDMA device is gone", {}};
    listeners.erase(std::remove(listeners.begin(), listeners.end(), id), listeners.end());
    rdma_destroy_id(id);
    events.push_back(std::move(event));
  }

  void managed(Link& link, rdma_cm_event_type type, int status, std::vector<uint8_t> data) {
    if (link.state == State::kOver) return;
    switch (type) {
      case RDMA_CM_EVENT_ADDR_RESOLVED: {
        const int64_t leftMs = (link.deadlineNs - nowNs()) / 1000000;
        if (rdma_resolve_route(link.id, static_cast<int>(std::max<int64_t>(leftMs, 1))) != 0) fail(link, "no route", errno);
        break;
      }
      case RDMA_CM_EVENT_ROUTE_RESOLVED:
        request(link);
        break;
      case RDMA_CM_EVENT_ESTABLISHED:
        if (link.state != State::kConnected) becomeConnected(link, std::move(data));
        break;
      case RDMA_CM_EVENT_REJECTED:
        if (status == kConsumerReject && link.state == State::kConnecting) {
          release(link, EIO);
          say(EventKind::kRefused, link, "the peer refused", ECONNREFUSED, std::move(data));
        } else {
          fail(link, status == kNobodyListens ? "nobody listens there" : "the peer's kernel refused, reason " + std::to_string(status), ECONNREFUSED);
        }
        break;
      case RDMA_CM_EVENT_ADDR_ERROR:
        fail(link, "the address cannot be reached over RDMA", -status);
        break;
      case RDMA_CM_EVENT_ROUTE_ERROR:
        fail(link, "there is no route", -status);
        break;
      case RDMA_CM_EVENT_UNREACHABLE:
      case RDMA_CM_EVENT_CONNECT_ERROR:
        fail(link, "the peer does not answer", status < 0 ? -status : ETIMEDOUT);
        break;
      case RDMA_CM_EVENT_DISCONNECTED:
        fail(link, "the peer closed the connection", ECONNRESET);
        break;
      case RDMA_CM_EVENT_DEVICE_REMOVAL:
        fail(link, "the RDMA device is gone", ENODEV);
        break;
      case RDMA_CM_EVENT_ADDR_CHANGE:
        fail(link, "the network device changed its address", ENETRESET);
        break;
      default:  // TIMEWAIT_EXIT: nothing of ours hangs on it
        break;
    }
  }

  void request(Link& link) {
    try {
      makeQueuePair(link);
    } catch (const Error& error) {
      return fail(link, error.what(), error.code ? error.code : EIO);
    }
    rdma_conn_param param{};
    param.private_data = link.hello.empty() ? nullptr : link.hello.data();
    param.private_data_len = static_cast<uint8_t>(link.hello.size());
    param.initiator_depth = static_cast<uint8_t>(std::clamp(link.device->limits.max_qp_init_rd_atom, 1, int{kMostReads}));
    param.responder_resources = 1;  // nobody reads from us; an original donor asks for one all the same
    param.retry_count = kRetries;
    param.rnr_retry_count = kRnrRetries;
    link.state = State::kConnecting;
    if (rdma_connect(link.id, &param) != 0) fail(link, "cannot connect", errno);
  }
};

std::string Fabric::whyNot() {
  int count = 0;
  ibv_device** list = ibv_get_device_list(&count);
  if (list) ibv_free_device_list(list);
  if (count == 0) {
    return "there is no RDMA device here (Soft-RoCE makes one of a network device: modprobe rdma_rxe; rdma link add rxe0 type rxe netdev eth0)";
  }
  if (access("/dev/infiniband/rdma_cm", R_OK | W_OK) != 0) {
    if (errno == ENOENT) return "/dev/infiniband/rdma_cm is missing: modprobe rdma_ucm";
    return "/dev/infiniband/rdma_cm may not be opened: run as root, or give rights to it";
  }
  return "";
}

std::vector<Fabric::Device> Fabric::devices() {
  std::vector<Device> result;
  int count = 0;
  ibv_device** list = ibv_get_device_list(&count);
  for (int i = 0; i < count; i++) {
    ibv_context* verbs = ibv_open_device(list[i]);
    if (!verbs) continue;
    ibv_device_attr limits{};
    if (ibv_query_device(verbs, &limits) == 0) {
      for (uint8_t number = 1; number <= limits.phys_port_cnt; number++) {
        ibv_port_attr port{};
        if (ibv_query_port(verbs, number, &port) != 0) continue;
        const char* layer = port.link_layer == IBV_LINK_LAYER_ETHERNET ? "Ethernet" : "InfiniBand";
        const uint32_t mtu = port.active_mtu ? 128u << port.active_mtu : 0;
        result.push_back({ibv_get_device_name(list[i]), number, ibv_port_state_str(port.state), layer, mtu, limits.max_qp_rd_atom, limits.max_qp_wr});
      }
    }
    ibv_close_device(verbs);
  }
  if (list) ibv_free_device_list(list);
  return result;
}

Fabric::Fabric(const FabricOptions& options) : impl_(std::make_unique<Impl>(options)) {}
Fabric::~Fabric() = default;

int Fabric::fd() const { return impl_->poller; }

void Fabric::setArena(uint8_t* base, size_t bytes) {
  impl_->arena = base;
  impl_->arenaBytes = bytes;
}

void Fabric::listen(const std::string& address, uint16_t port) {
  sockaddr_storage where = addressOf(address, port);
  auto* generic = reinterpret_cast<sockaddr*>(&where);
  const std::string name = nameOf(generic);
  rdma_cm_id* id = nullptr;
  if (rdma_create_id(impl_->channel, &id, nullptr, RDMA_PS_TCP) != 0) throw Error("rdma", "cannot listen on " + name, errno);
  if (where.ss_family == AF_INET6) {
    int only = 1;  // "::" beside "0.0.0.0" is no conflict
    rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_AFONLY, &only, sizeof only);
  }
  if (rdma_bind_addr(id, generic) != 0 || rdma_listen(id, kBacklog) != 0) {
    const int error = errno;
    rdma_destroy_id(id);
    if (error == EADDRINUSE) throw Error("listen", name + " is in use by another program", error);
    if (error == EADDRNOTAVAIL) throw Error("listen", name + " is no address of this machine", error);
    if (error == ENODEV) throw Error("listen", name + " is on no RDMA device; see which are with: rdma link", error);
    throw Error("listen", "cannot listen on " + name, error);
  }
  impl_->listeners.push_back(id);
  impl_->lookDue = true;
}

uint32_t Fabric::connect(const std::string& address, uint16_t port, const uint8_t* hello, size_t bytes, int timeoutMs) {
  sockaddr_storage where = addressOf(address, port);
  auto* generic = reinterpret_cast<sockaddr*>(&where);
  rdma_cm_id* id = nullptr;
  if (rdma_create_id(impl_->channel, &id, nullptr, RDMA_PS_TCP) != 0) throw Error("rdma", "cannot make a connection", errno);
  Impl::Link& link = impl_->add(id, Impl::State::kResolving);
  link.peer = nameOf(generic);
  link.hello.assign(hello, hello + bytes);
  impl_->setDeadline(link, timeoutMs);
  if (rdma_resolve_addr(id, nullptr, generic, timeoutMs) != 0) impl_->fail(link, "the address cannot be reached over RDMA", errno);
  impl_->lookDue = true;
  return link.number;
}

void Fabric::accept(uint32_t connection, const uint8_t* data, size_t bytes) {
  Impl::Link* link = impl_->find(connection);
  if (!link || link->state != Impl::State::kRequested) return;
  try {
    impl_->makeQueuePair(*link);
  } catch (const Error& error) {
    rdma_reject(link->id, nullptr, 0);
    return impl_->fail(*link, error.what(), error.code);
  }
  rdma_conn_param param{};
  param.private_data = bytes ? data : nullptr;
  param.private_data_len = static_cast<uint8_t>(bytes);
  param.responder_resources = static_cast<uint8_t>(std::clamp(link->device->limits.max_qp_rd_atom, 1, std::max<int>(link->peerReads, 1)));
  param.initiator_depth = 0;  // a donor reads nothing
  param.rnr_retry_count = kRnrRetries;
  link->state = Impl::State::kAccepting;
  if (rdma_accept(link->id, &param) != 0) return impl_->fail(*link, "the connection could not be accepted", errno);
  impl_->setDeadline(*link, kAcceptMs);
}

void Fabric::reject(uint32_t connection, const uint8_t* data, size_t bytes) {
  Impl::Link* link = impl_->find(connection);
  if (!link || link->state != Impl::State::kRequested) return;
  rdma_reject(link->id, bytes ? data : nullptr, static_cast<uint8_t>(bytes));
  close(connection);
}

bool Fabric::send(uint32_t connection, const uint8_t* message, size_t bytes) {
  Impl::Link* link = impl_->find(connection);
  if (!link || link->state != Impl::State::kConnected || link->freeSends.empty() || bytes > impl_->options.messageBytes) return false;
  const uint32_t index = link->freeSends.back();
  uint8_t* buffer = link->buffers + size_t{impl_->options.messages + index} * impl_->options.messageBytes;
  memcpy(buffer, message, bytes);
  ibv_sge piece{reinterpret_cast<uintptr_t>(buffer), static_cast<uint32_t>(bytes), link->buffersKey->lkey};
  ibv_send_wr request{}, *bad;
  request.wr_id = workId(Work::kSend, index);
  request.opcode = IBV_WR_SEND;
  request.send_flags = IBV_SEND_SIGNALED | (bytes <= link->inlineBytes ? IBV_SEND_INLINE : 0);
  request.sg_list = &piece;
  request.num_sge = 1;
  if (int error = ibv_post_send(link->id->qp, &request, &bad)) {
    impl_->fail(*link, "a message cannot be sent", error);
    return false;
  }
  link->freeSends.pop_back();
  return true;
}

void Fabric::close(uint32_t connection) {
  Impl::Link* link = impl_->find(connection);
  if (!link) return;
  impl_->release(*link, ECANCELED);
  impl_->links.erase(connection);
  auto& events = impl_->events;
  events.erase(std::remove_if(events.begin(), events.end(), [&](const Event& event) { return event.connection == connection; }), events.end());
}

Fabric::Exposure Fabric::expose(uint32_t connection, uint8_t* base, size_t bytes) {
  Impl::Link* link = impl_->find(connection);
  if (!link || !link->server || link->state != Impl::State::kConnected) throw Error("rdma", "there is no such client");
  ibv_mr* key = ibv_reg_mr(link->pd, base, bytes, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE);
  if (!key) throw registering(bytes, errno);
  const uint32_t id = impl_->nextExposure++;
  impl_->shown[id] = {connection, key};
  return {reinterpret_cast<uintptr_t>(base), key->rkey, id};
}

void Fabric::withdraw(uint32_t exposure) {
  auto at = impl_->shown.find(exposure);
  if (at == impl_->shown.end()) return;
  const auto [connection, key] = at->second;
  const int error = ibv_dereg_mr(key);
  impl_->shown.erase(at);
  if (!error) return;
  // Whoever gets that memory next must not share it with this peer: without its queue pair its key opens nothing.
  if (Impl::Link* link = impl_->find(connection)) impl_->fail(*link, "memory lent to it cannot be withdrawn", error);
}

bool Fabric::post(uint32_t connection, bool write, uint32_t token, uint8_t* local, uint32_t bytes, uint64_t remote, uint32_t rkey) {
  Impl::Link* link = impl_->find(connection);
  if (!link || link->state != Impl::State::kConnected || !link->device->arena) return false;
  if (link->freeContexts.empty()) {
    link->counters.poolEmpty++;
    return false;
  }
  const uint32_t context = link->freeContexts.back();
  link->freeContexts.pop_back();
  link->busy[context] = true;
  link->tokens[context] = token;
  link->pieces[context] = {reinterpret_cast<uintptr_t>(local), bytes, link->device->arena->lkey};
  ibv_send_wr& request = link->requests[context];
  request = {};
  request.wr_id = workId(Work::kOperation, context);
  request.opcode = write ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ;
  request.send_flags = IBV_SEND_SIGNALED;
  request.sg_list = &link->pieces[context];
  request.num_sge = 1;
  request.wr.rdma.remote_addr = remote;
  request.wr.rdma.rkey = rkey;
  (link->last ? link->last->next : link->first) = &request;
  link->last = &request;
  (write ? link->counters.writes : link->counters.reads)++;
  impl_->inFlight++;
  return true;
}

void Fabric::ring() {
  for (auto& [number, link] : impl_->links) {
    if (!link->first) continue;
    ibv_send_wr *first = link->first, *bad = nullptr;
    link->first = link->last = nullptr;
    link->counters.doorbells++;
    // What the device did not take stays busy, and is completed when the connection is released.
    if (int error = ibv_post_send(link->id->qp, first, &bad)) impl_->fail(*link, "an operation cannot be posted", error);
  }
}

void Fabric::poll(Sink* sink) {
  const int64_t now = nowNs();
  if (impl_->lookDue || now - impl_->lookedNs > kLookNs) impl_->look(now);
  for (auto& [number, link] : impl_->links) {
    if (link->cq) impl_->pollLink(*link);
  }
  // By way of a list, so that the sink may call anything here.
  std::vector<std::pair<uint32_t, int>> finished;
  finished.swap(impl_->finished);
  if (sink) {
    for (auto [token, error] : finished) sink->completed(token, error);
  }
  finished.clear();
  if (impl_->finished.empty()) impl_->finished.swap(finished);  // keeps its memory
}

bool Fabric::arm() {
  bool more = !impl_->events.empty() || !impl_->finished.empty();
  for (auto& [number, link] : impl_->links) {
    if (!link->cq || link->armed) continue;
    link->armed = ibv_req_notify_cq(link->cq, 0) == 0;
    // What came before that raises no notice.
    link->early.resize(kCompletions);
    const int count = ibv_poll_cq(link->cq, kCompletions, link->early.data());
    link->early.resize(static_cast<size_t>(std::max(count, 0)));
    more = more || count != 0;
  }
  impl_->lookDue = true;
  return more;
}

bool Fabric::hasEvent() const { return !impl_->events.empty(); }

bool Fabric::isConnected(uint32_t connection) const {
  const Impl::Link* link = impl_->find(connection);
  return link && link->state == Impl::State::kConnected;
}

bool Fabric::nextEvent(Event* event) {
  if (impl_->events.empty()) return false;
  *event = std::move(impl_->events.front());
  impl_->events.pop_front();
  return true;
}

uint32_t Fabric::inFlight() const { return impl_->inFlight; }

Fabric::Counters Fabric::counters(uint32_t connection) const {
  Impl::Link* link = impl_->find(connection);
  return link ? link->counters : Counters{};
}

}  // namespace leap

#endif
