// What is posted to the queue pairs and what completes: messages, and reads and writes with their pool of contexts.
#ifdef LEAP_RDMA
#include <rdma/rdma_cma.h>
#include <algorithm>
#include <cstring>

#include "rdma/fabric_impl.h"

namespace leap {
namespace {

constexpr int kCompletionsAPoll = 1024;  // of one connection, so that none keeps the others waiting
constexpr int64_t kLookNs = 1000000;     // how often a busy caller has the descriptors looked at

enum class Work : uint32_t { kOperation, kSend, kReceive };

uint64_t workId(Work work, uint32_t index) { return uint64_t{static_cast<uint32_t>(work)} << 32 | index; }

std::string describe(const ibv_wc& failed) {
  const char* what = failed.opcode == IBV_WC_RECV ? "a receive" : "an operation";
  if (static_cast<Work>(failed.wr_id >> 32) == Work::kReceive) what = "a receive";
  if (static_cast<Work>(failed.wr_id >> 32) == Work::kSend) what = "a message";
  if (failed.status == IBV_WC_RETRY_EXC_ERR) return "the peer does not answer";
  if (failed.status == IBV_WC_WR_FLUSH_ERR) return "the connection broke";
  if (failed.status == IBV_WC_LOC_LEN_ERR) return "a message is longer than was agreed";
  return std::string(what) + " failed: " + ibv_wc_status_str(failed.status);
}

}  // namespace

int Fabric::Impl::postReceive(Link& link, uint32_t i) {
  ibv_sge piece{reinterpret_cast<uintptr_t>(link.buffers + size_t{i} * options.messageBytes), options.messageBytes,
                link.buffersKey->lkey};
  ibv_recv_wr request{}, *bad;
  request.wr_id = workId(Work::kReceive, i);
  request.sg_list = &piece;
  request.num_sge = 1;
  return ibv_post_recv(link.id->qp, &request, &bad);
}

void Fabric::Impl::complete(Link& link, uint32_t context, int error) {
  link.busy[context] = false;
  link.freeContexts.push_back(context);
  inFlight--;
  finished.emplace_back(link.tokens[context], error);
}

// Returns false when the queue pair has failed.
bool Fabric::Impl::finish(Link& link, const ibv_wc& done) {
  const auto work = static_cast<Work>(done.wr_id >> 32);
  const auto index = static_cast<uint32_t>(done.wr_id);
  const bool well = done.status == IBV_WC_SUCCESS;
  switch (work) {
    case Work::kOperation:
      // A flushed one may not have been the cause; release() says ECANCELED or EIO for those.
      if (well) complete(link, index, 0);
      break;
    case Work::kSend: link.freeSends.push_back(index); break;
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

void Fabric::Impl::pollLink(Link& link) {
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

void Fabric::Impl::takeNotices(Link& link) {
  ibv_cq* cq;
  void* context;
  while (ibv_get_cq_event(link.channel, &cq, &context) == 0) {
    link.unacknowledged++;
    link.armed = false;
  }
}

bool Fabric::send(uint32_t connection, const uint8_t* message, size_t bytes) {
  Impl::Link* link = impl_->find(connection);
  if (!link || link->state != Impl::State::kConnected || link->freeSends.empty() || bytes > impl_->options.messageBytes)
    return false;
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

bool Fabric::post(uint32_t connection, bool write, uint32_t token, uint8_t* local, uint32_t bytes, uint64_t remote,
                  uint32_t rkey) {
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
    if (int error = ibv_post_send(link->id->qp, first, &bad))
      impl_->fail(*link, "an operation cannot be posted", error);
  }
}

void Fabric::poll(Sink* sink) {
  const int64_t now = Impl::nowNs();
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
    link->early.resize(Impl::kCompletions);
    const int count = ibv_poll_cq(link->cq, Impl::kCompletions, link->early.data());
    link->early.resize(static_cast<size_t>(std::max(count, 0)));
    more = more || count != 0;
  }
  impl_->lookDue = true;
  return more;
}

}  // namespace leap

#endif
