// RDMA devices: which there are, their limits, the memory registered with them, and how one that goes is given back.
#ifdef LEAP_RDMA
#include <fcntl.h>
#include <rdma/rdma_cma.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>

#include "base/error.h"
#include "rdma/fabric_impl.h"

namespace leap {
namespace {

constexpr int kFatalMs = 1000;  // from a device's failure to the end of its connections

}  // namespace

Fabric::Impl::Device* Fabric::Impl::acquire(ibv_context* verbs) {
  auto at = std::find_if(devices.begin(), devices.end(), [&](const auto& each) { return each->verbs == verbs; });
  if (at == devices.end()) {
    auto device = std::make_unique<Device>();
    device->verbs = verbs;
    if (int error = ibv_query_device(verbs, &device->limits))
      throw Error(ErrorKind::kRdma, "the RDMA device does not answer", error);
    setNonBlocking(verbs->async_fd);
    watch(verbs->async_fd, Tag::kDevice, 0);
    at = devices.insert(devices.end(), std::move(device));
  }
  (*at)->users++;
  return at->get();
}

// With its last connection a device is given back whole: the kernel waits for that when the device is to be removed.
void Fabric::Impl::giveBack(Device* device) {
  if (--device->users > 0) return;
  epoll_ctl(poller, EPOLL_CTL_DEL, device->verbs->async_fd, nullptr);
  if (device->arena) ibv_dereg_mr(device->arena);
  if (device->pd) ibv_dealloc_pd(device->pd);
  devices.erase(std::find_if(devices.begin(), devices.end(), [&](const auto& each) { return each.get() == device; }));
}

// The kernel waits with the removal of a device until nobody has its context open, and librdmacm keeps that open for as
// long as it sees no other device. So when nothing of ours is on it any more its descriptors are made to lead nowhere.
// librdmacm closes those in its own time.
void Fabric::Impl::letGoOfRemoved() {
  auto isUsed = [this](ibv_context* verbs) {
    return std::any_of(links.begin(), links.end(),
                       [=](auto& each) { return each.second->id && each.second->id->verbs == verbs; }) ||
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

void Fabric::Impl::prepareShared(Device& device) {
  if (!device.pd && !(device.pd = ibv_alloc_pd(device.verbs)))
    throw Error(ErrorKind::kRdma, "cannot make a protection domain", errno);
  // Nobody reads or writes our memory from afar.
  if (!arena || device.arena) return;
  if (!(device.arena = ibv_reg_mr(device.pd, arena, arenaBytes, IBV_ACCESS_LOCAL_WRITE)))
    throw registering(arenaBytes, errno);
}

void Fabric::Impl::takeDeviceEvents() {
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

Error Fabric::Impl::registering(size_t bytes, int error) {
  std::string what = "cannot register " + std::to_string(bytes >> 10) + " KiB of memory for RDMA";
  if (error == ENOMEM || error == EAGAIN || error == EPERM) {
    const char* remedy =
        ": the locked-memory limit may be too low; raise it with: ulimit -l unlimited, or LimitMEMLOCK=infinity in its "
        "unit";
    return Error(ErrorKind::kMemlock, what + remedy, error);
  }
  return Error(ErrorKind::kRdma, what, error);
}

std::string Fabric::whyNot() {
  int count = 0;
  ibv_device** list = ibv_get_device_list(&count);
  if (list) ibv_free_device_list(list);
  if (count == 0) {
    return "there is no RDMA device here (Soft-RoCE makes one of a network device: modprobe rdma_rxe; rdma link add "
           "rxe0 type rxe netdev eth0)";
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
        result.push_back({ibv_get_device_name(list[i]), number, ibv_port_state_str(port.state), layer, mtu,
                          limits.max_qp_rd_atom, limits.max_qp_wr});
      }
    }
    ibv_close_device(verbs);
  }
  if (list) ibv_free_device_list(list);
  return result;
}

void Fabric::setArena(uint8_t* base, size_t bytes) {
  impl_->arena = base;
  impl_->arenaBytes = bytes;
}

Fabric::Exposure Fabric::expose(uint32_t connection, uint8_t* base, size_t bytes) {
  Impl::Link* link = impl_->find(connection);
  if (!link || !link->server || link->state != Impl::State::kConnected)
    throw Error(ErrorKind::kRdma, "there is no such client");
  ibv_mr* key =
      ibv_reg_mr(link->pd, base, bytes, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE);
  if (!key) throw Impl::registering(bytes, errno);
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
  if (Impl::Link* link = impl_->find(connection))
    impl_->fail(*link, "the memory lent to the client cannot be withdrawn", error);
}

}  // namespace leap

#endif
