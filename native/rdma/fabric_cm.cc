// The connection manager (librdmacm): listening, connecting, accepting, and what it has to say about each connection.
#ifdef LEAP_RDMA
#include <netdb.h>
#include <netinet/in.h>
#include <rdma/rdma_cma.h>
#include <sys/socket.h>
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "rdma/fabric_impl.h"

namespace leap {
namespace {

constexpr int kBacklog = 128;
constexpr uint32_t kMostRequests = 64;  // requests that have not been answered yet; more are turned away
constexpr int kAcceptMs = 5000;         // from our accept to the peer's last word
constexpr uint8_t kMostReads = 128;     // outstanding RDMA READs; 255 means something else to librdmacm
constexpr int kConsumerReject = 28;     // the peer's program said no; other reasons are its kernel's
constexpr int kNobodyListens = 8;

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
  if (getaddrinfo(text.c_str(), std::to_string(port).c_str(), &hints, &found) != 0)
    throw Error(ErrorKind::kBadArgument, text + " is not a numeric address");
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

}  // namespace

void Fabric::Impl::takeManagerEvents() {
  rdma_cm_event* event;
  for (int most = 256; most > 0 && rdma_get_cm_event(channel, &event) == 0; most--) {
    // A copy, so that it is given back before an id is destroyed: that waits for it.
    const rdma_cm_event_type type = event->event;
    rdma_cm_id* id = event->id;
    const int status = event->status;
    const rdma_conn_param& param = event->param.conn;
    std::vector<uint8_t> data;
    const bool carries =
        type == RDMA_CM_EVENT_CONNECT_REQUEST || type == RDMA_CM_EVENT_ESTABLISHED || type == RDMA_CM_EVENT_REJECTED;
    if (carries) data = privateData(param);
    const uint8_t peerReads = type == RDMA_CM_EVENT_CONNECT_REQUEST ? param.responder_resources : 0;
    rdma_ack_cm_event(event);
    if (type == RDMA_CM_EVENT_DEVICE_REMOVAL && id->verbs &&
        std::find(removed.begin(), removed.end(), id->verbs) == removed.end()) {
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

void Fabric::Impl::requested(rdma_cm_id* id, std::vector<uint8_t> data, uint8_t peerReads) {
  const auto waiting =
      std::count_if(links.begin(), links.end(), [](auto& each) { return each.second->state == State::kRequested; });
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

void Fabric::Impl::listenerGone(rdma_cm_id* id) {
  Event event{EventKind::kDisconnected, 0, ENODEV, nameOf(rdma_get_local_addr(id)), "the RDMA device is gone", {}};
  listeners.erase(std::remove(listeners.begin(), listeners.end(), id), listeners.end());
  rdma_destroy_id(id);
  events.push_back(std::move(event));
}

void Fabric::Impl::managed(Link& link, rdma_cm_event_type type, int status, std::vector<uint8_t> data) {
  if (link.state == State::kOver) return;
  switch (type) {
    case RDMA_CM_EVENT_ADDR_RESOLVED: {
      const int64_t leftMs = (link.deadlineNs - nowNs()) / 1000000;
      if (rdma_resolve_route(link.id, static_cast<int>(std::max<int64_t>(leftMs, 1))) != 0)
        fail(link, "no route", errno);
      break;
    }
    case RDMA_CM_EVENT_ROUTE_RESOLVED: request(link); break;
    case RDMA_CM_EVENT_ESTABLISHED:
      if (link.state != State::kConnected) becomeConnected(link, std::move(data));
      break;
    case RDMA_CM_EVENT_REJECTED:
      if (status == kConsumerReject && link.state == State::kConnecting) {
        release(link, EIO);
        say(EventKind::kRefused, link, "the peer refused", ECONNREFUSED, std::move(data));
      } else {
        fail(link,
             status == kNobodyListens ? "no program listens there"
                                      : "the peer's kernel refused, reason " + std::to_string(status),
             ECONNREFUSED);
      }
      break;
    case RDMA_CM_EVENT_ADDR_ERROR: fail(link, "the address cannot be reached over RDMA", -status); break;
    case RDMA_CM_EVENT_ROUTE_ERROR: fail(link, "there is no route", -status); break;
    case RDMA_CM_EVENT_UNREACHABLE:
    case RDMA_CM_EVENT_CONNECT_ERROR: fail(link, "the peer does not answer", status < 0 ? -status : ETIMEDOUT); break;
    case RDMA_CM_EVENT_DISCONNECTED: fail(link, "the peer closed the connection", ECONNRESET); break;
    case RDMA_CM_EVENT_DEVICE_REMOVAL: fail(link, "the RDMA device is gone", ENODEV); break;
    case RDMA_CM_EVENT_ADDR_CHANGE: fail(link, "the network device changed its address", ENETRESET); break;
    default:  // TIMEWAIT_EXIT: nothing of ours hangs on it
      break;
  }
}

void Fabric::Impl::request(Link& link) {
  try {
    makeQueuePair(link);
  } catch (const Error& error) { return fail(link, error.what(), error.code ? error.code : EIO); }
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

void Fabric::listen(const std::string& address, uint16_t port) {
  sockaddr_storage where = addressOf(address, port);
  auto* generic = reinterpret_cast<sockaddr*>(&where);
  const std::string name = nameOf(generic);
  rdma_cm_id* id = nullptr;
  if (rdma_create_id(impl_->channel, &id, nullptr, RDMA_PS_TCP) != 0)
    throw Error(ErrorKind::kRdma, "cannot listen on " + name, errno);
  if (where.ss_family == AF_INET6) {
    int only = 1;  // "::" beside "0.0.0.0" is no conflict
    rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_AFONLY, &only, sizeof only);
  }
  if (rdma_bind_addr(id, generic) != 0 || rdma_listen(id, kBacklog) != 0) {
    const int error = errno;
    rdma_destroy_id(id);
    if (error == EADDRINUSE) throw Error(ErrorKind::kListen, name + " is in use by another program", error);
    if (error == EADDRNOTAVAIL)
      throw Error(ErrorKind::kListen, name + " is not an address of this machine: see ip address", error);
    if (error == ENODEV)
      throw Error(ErrorKind::kListen, name + " belongs to no RDMA device; list the devices with: rdma link", error);
    throw Error(ErrorKind::kListen, "cannot listen on " + name, error);
  }
  impl_->listeners.push_back(id);
  impl_->lookDue = true;
}

uint32_t Fabric::connect(const std::string& address, uint16_t port, const uint8_t* hello, size_t bytes, int timeoutMs) {
  sockaddr_storage where = addressOf(address, port);
  auto* generic = reinterpret_cast<sockaddr*>(&where);
  rdma_cm_id* id = nullptr;
  if (rdma_create_id(impl_->channel, &id, nullptr, RDMA_PS_TCP) != 0)
    throw Error(ErrorKind::kRdma, "cannot make a connection", errno);
  Impl::Link& link = impl_->add(id, Impl::State::kResolving);
  link.peer = nameOf(generic);
  link.hello.assign(hello, hello + bytes);
  impl_->setDeadline(link, timeoutMs);
  if (rdma_resolve_addr(id, nullptr, generic, timeoutMs) != 0)
    impl_->fail(link, "the address cannot be reached over RDMA", errno);
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
  param.responder_resources =
      static_cast<uint8_t>(std::clamp(link->device->limits.max_qp_rd_atom, 1, std::max<int>(link->peerReads, 1)));
  param.initiator_depth = 0;  // a donor reads nothing
  param.rnr_retry_count = Impl::kRnrRetries;
  link->state = Impl::State::kAccepting;
  if (rdma_accept(link->id, &param) != 0) return impl_->fail(*link, "the connection cannot be accepted", errno);
  impl_->setDeadline(*link, kAcceptMs);
}

void Fabric::reject(uint32_t connection, const uint8_t* data, size_t bytes) {
  Impl::Link* link = impl_->find(connection);
  if (!link || link->state != Impl::State::kRequested) return;
  rdma_reject(link->id, bytes ? data : nullptr, static_cast<uint8_t>(bytes));
  close(connection);
}

}  // namespace leap

#endif
