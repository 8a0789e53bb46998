// RDMA, over libibverbs and librdmacm: connections, messages, one-sided reads and writes. Mechanism only: who is
// connected to, what a message says and where a page goes is decided in TypeScript. One thread owns a Fabric and calls
// it; nothing here blocks but listen() and the making of a queue pair.
//
// A connection is one reliable (RC) queue pair with one completion queue. It carries messages (SEND/RECV, both ways)
// and, on the client's side, one-sided READ and WRITE. Its contexts are a fixed pool: post() says false when all are in
// flight, and the caller comes again after a completion.
//
//   connect() -> kConnected | kRefused | kUnreachable          listen() -> kConnectRequest -> accept() -> kConnected,
//   or reject() kConnected -> kMessage* -> kDisconnected                   close() at any time; every operation in
//   flight is then completed with ECANCELED
//
// Built without RDMA headers (LEAP_RDMA is not defined) the constructor throws Error(ErrorKind::kRdma, "built without
// RDMA ...").
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace leap {

struct FabricOptions {
  uint32_t messageBytes = 4096;  // the longest message
  uint32_t messages = 16;        // receive buffers, and messages on their way out, per connection
  uint32_t contexts = 256;       // one-sided operations in flight, per connection; less where the device has less
};

class Fabric {
 public:
  enum class EventKind : uint32_t {
    kConnectRequest =
        1,              // connection, peer, data: the private data that came with it, empty for a peer that sends none
    kConnected = 2,     // connection, data: the private data of the accept
    kRefused = 3,       // connection, data: the private data of the reject, text
    kUnreachable = 4,   // connection, error, text: address, route or peer
    kDisconnected = 5,  // connection, text: by the peer, by an error of the queue pair, or because the device is gone.
                        // connection 0: a listener, its address in `peer`, is gone with its device; listen() again when
                        // that is back
    kMessage = 6,       // connection, data
  };
  struct Event {
    EventKind kind;
    uint32_t connection = 0;
    int error = 0;
    std::string peer;  // numeric address and port: "10.9.0.1:40112", "[fe80::1]:40112"
    std::string text;
    std::vector<uint8_t> data;
  };
  struct Sink {
    virtual ~Sink() = default;
    // A one-sided operation is through; error 0, or an errno (ECANCELED: the connection was closed, EIO: the queue pair
    // failed).
    virtual void completed(uint32_t token, int error) = 0;
  };
  // Per connection, for statistics.
  struct Counters {
    uint64_t reads = 0, writes = 0, doorbells = 0, poolEmpty = 0;
  };

  // A port of an RDMA device, for the doctor.
  struct Device {
    std::string name;
    uint32_t port;
    std::string state, linkLayer;
    uint32_t activeMtu;
    int maxReads, maxWorkRequests;  // max_qp_rd_atom, max_qp_wr
  };
  static std::vector<Device> devices();

  // Why there is no RDMA here ("built without RDMA ...", "no RDMA device ..."); empty when there is.
  static std::string whyNot();

  explicit Fabric(const FabricOptions& options);  // throws Error
  ~Fabric();
  Fabric(const Fabric&) = delete;
  Fabric& operator=(const Fabric&) = delete;

  // Readable when poll() has something to do, once arm() has been called. An epoll descriptor.
  int fd() const;

  // The memory that post() may name; registered with every device a connection of ours is on. To be called once, before
  // connect().
  void setArena(uint8_t* base, size_t bytes);

  // ---- control plane. Connections are small integers from 1 up, never used again. Addresses are numeric, IPv4 or
  // IPv6.
  void listen(const std::string& address, uint16_t port);  // throws Error
  uint32_t connect(const std::string& address, uint16_t port, const uint8_t* hello, size_t bytes, int timeoutMs);
  void accept(uint32_t connection, const uint8_t* data, size_t bytes);
  void reject(uint32_t connection, const uint8_t* data, size_t bytes);
  // False: all send buffers are on their way, or the connection is not connected.
  bool send(uint32_t connection, const uint8_t* message, size_t bytes);
  // No event of this connection comes any more; operations in flight are completed with ECANCELED by the next poll().
  void close(uint32_t connection);

  // Registers memory for the peer of this connection alone (its protection domain), readable and writable from afar.
  // Throws Error.
  struct Exposure {
    uint64_t address;
    uint32_t rkey;
    uint32_t id;
  };
  Exposure expose(uint32_t connection, uint8_t* base, size_t bytes);
  // After this the peer's reads and writes fail; should the device refuse, its connection is over. All of a
  // connection's are withdrawn at its end.
  void withdraw(uint32_t exposure);

  // ---- data plane
  // Queues one READ or WRITE of `bytes` between `local` (in the arena) and `remote`. False: no context is free, or not
  // connected.
  bool post(uint32_t connection, bool write, uint32_t token, uint8_t* local, uint32_t bytes, uint64_t remote,
            uint32_t rkey);
  // Hands what has been queued to the devices: one doorbell a connection.
  void ring();
  // Takes what has happened: operations to `sink` (may be null for a server), the rest to nextEvent().
  void poll(Sink* sink);
  // Asks for fd() to become readable at the next completion or event. True: something is there already, poll() again
  // instead of sleeping.
  bool arm();
  bool nextEvent(Event* event);
  bool hasEvent() const;
  bool isConnected(uint32_t connection) const;
  // Operations in flight on all connections.
  uint32_t inFlight() const;
  Counters counters(uint32_t connection) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace leap
