// The fabric of a build without RDMA headers: nothing but the reason.
#ifndef LEAP_RDMA
#include "base/error.h"
#include "rdma/fabric.h"

namespace leap {

namespace {
constexpr char kNotBuilt[] = "built without RDMA: install librdmacm-dev and libibverbs-dev, then: npm run build";
}

struct Fabric::Impl {};

std::string Fabric::whyNot() { return kNotBuilt; }
std::vector<Fabric::Device> Fabric::devices() { return {}; }
// Nobody ever has one of these: the constructor throws.
Fabric::Fabric(const FabricOptions&) { throw Error(ErrorKind::kRdma, kNotBuilt); }
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

#endif
