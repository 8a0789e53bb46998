// One connection: all that it holds, from its queue pair on, and how that is given back at its end.
#ifdef LEAP_RDMA
#include <rdma/rdma_cma.h>
#include <sys/epoll.h>
#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "base/error.h"
#include "rdma/fabric_impl.h"

namespace leap {
namespace {

constexpr uint32_t kInlineBytes = 64;  // most messages; goes with the work request, where the device can
constexpr size_t kPage = 4096;

}  // namespace

Fabric::Impl::Link* Fabric::Impl::find(uint32_t connection) {
  auto at = links.find(connection);
  return at == links.end() ? nullptr : at->second.get();
}

Fabric::Impl::Link& Fabric::Impl::add(rdma_cm_id* id, State state) {
  auto link = std::make_unique<Link>();
  link->number = nextConnection++;
  link->state = state;
  link->id = id;
  id->context = link.get();
  return *(links[link->number] = std::move(link));
}

void Fabric::Impl::makeQueuePair(Link& link) {
  link.device = acquire(link.id->verbs);
  const ibv_device_attr& limits = link.device->limits;
  if (link.server) {
    // Of its own, and not the one that librdmacm shares: what is exposed to this peer is out of every other's reach.
    if (!(link.pd = ibv_alloc_pd(link.id->verbs)))
      throw Error(ErrorKind::kRdma, "cannot make a protection domain", errno);
  } else {
    prepareShared(*link.device);
    link.pd = link.device->pd;
  }
  const uint32_t messages = options.messages;
  const uint32_t most = static_cast<uint32_t>(std::min(limits.max_qp_wr, limits.max_cqe));
  if (most <= 3 * messages)
    throw Error(ErrorKind::kRdma, "the RDMA device has queues of " + std::to_string(most) + " entries only");
  const uint32_t contexts = link.server ? 0 : std::min(options.contexts, most - 3 * messages);

  if (!(link.channel = ibv_create_comp_channel(link.id->verbs)))
    throw Error(ErrorKind::kRdma, "cannot make a completion channel", errno);
  setNonBlocking(link.channel->fd);
  watch(link.channel->fd, Tag::kCompletion, link.number);
  if (!(link.cq = ibv_create_cq(link.id->verbs, static_cast<int>(contexts + 2 * messages), nullptr, link.channel, 0))) {
    throw Error(ErrorKind::kRdma, "cannot make a completion queue", errno);
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
    if (rdma_create_qp(link.id, link.pd, &attempt) != 0)
      throw Error(ErrorKind::kRdma, "cannot make a queue pair", errno);
  }
  link.inlineBytes = attempt.cap.max_inline_data;

  const size_t bytes = (size_t{2} * messages * options.messageBytes + kPage - 1) / kPage * kPage;
  if (!(link.buffers = static_cast<uint8_t*>(std::aligned_alloc(kPage, bytes))))
    throw Error(ErrorKind::kRdma, "out of memory", ENOMEM);
  if (!(link.buffersKey = ibv_reg_mr(link.pd, link.buffers, bytes, IBV_ACCESS_LOCAL_WRITE)))
    throw registering(bytes, errno);
  for (uint32_t i = 0; i < messages; i++) {
    link.freeSends.push_back(i);
    if (int error = postReceive(link, i)) throw Error(ErrorKind::kRdma, "cannot post a receive", error);
  }
  link.requests.resize(contexts);
  link.pieces.resize(contexts);
  link.tokens.resize(contexts);
  link.busy.resize(contexts);
  for (uint32_t i = contexts; i-- > 0;) link.freeContexts.push_back(i);
  uint8_t timeout = kAckTimeout;
  rdma_set_option(link.id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout,
                  sizeof timeout);  // Linux 5.1; before it, the manager's choice
  lookDue = true;
}

void Fabric::Impl::becomeConnected(Link& link, std::vector<uint8_t> data) {
  link.state = State::kConnected;
  link.deadlineNs = 0;
  ibv_qp_attr attributes{};
  attributes.min_rnr_timer = kRnrTimer;
  ibv_modify_qp(link.id->qp, &attributes, IBV_QP_MIN_RNR_TIMER);  // a device that refuses keeps the manager's
  say(EventKind::kConnected, link, "", 0, std::move(data));
  lookDue = true;
}

// Everything a connection holds, in the order in which one thing rests on another. The queue pair goes before
// operations are said to be through: until then the device may still write into their memory.
void Fabric::Impl::release(Link& link, int error) {
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

void Fabric::Impl::fail(Link& link, const std::string& text, int error) {
  if (link.state == State::kOver) return;
  const bool wasUp =
      link.state == State::kConnected || link.state == State::kAccepting || link.state == State::kRequested;
  release(link, EIO);  // what had been received comes before the end
  say(wasUp ? EventKind::kDisconnected : EventKind::kUnreachable, link, text, error);
}

void Fabric::close(uint32_t connection) {
  Impl::Link* link = impl_->find(connection);
  if (!link) return;
  impl_->release(*link, ECANCELED);
  impl_->links.erase(connection);
  auto& events = impl_->events;
  events.erase(
      std::remove_if(events.begin(), events.end(), [&](const Event& event) { return event.connection == connection; }),
      events.end());
}

bool Fabric::isConnected(uint32_t connection) const {
  const Impl::Link* link = impl_->find(connection);
  return link && link->state == Impl::State::kConnected;
}

Fabric::Counters Fabric::counters(uint32_t connection) const {
  Impl::Link* link = impl_->find(connection);
  return link ? link->counters : Counters{};
}

}  // namespace leap

#endif
