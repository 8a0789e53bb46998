// rseq and syscall user dispatch of a stopped thread.
#include "target/thread_state.h"

#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <cerrno>
#include <cstddef>

namespace leap {
namespace {

// The kernel's struct rseq_cs: what a thread's struct rseq points to while it is in a sequence.
struct Sequence {
  uint32_t version, flags;
  uint64_t start, length, abort;  // addresses, and a length in bytes
};
constexpr uint64_t kSequenceField = 8;  // offset of rseq_cs in struct rseq
static_assert(sizeof(Sequence) == 32, "rseq ABI");

long request(int number, pid_t tid, void* size, void* data) {
  return ptrace(static_cast<__ptrace_request>(number), tid, size, data);
}

// By ptrace and not by process_vm_readv, which would wait for a page that is absent under userfaultfd.
bool peek(pid_t tid, uint64_t address, uint64_t* word) {
  errno = 0;
  const long value = ptrace(PTRACE_PEEKDATA, tid, reinterpret_cast<void*>(address), nullptr);
  *word = static_cast<uint64_t>(value);
  return errno == 0;
}

bool dispatch(int number, pid_t tid, PtraceDispatch* config) {
  return request(number, tid, reinterpret_cast<void*>(sizeof *config), config) == 0;
}

}  // namespace

bool abortRestartableSequence(pid_t tid, arch::Registers& registers) {
  PtraceRseq rseq{};
  const long got = request(kPtraceGetRseq, tid, reinterpret_cast<void*>(sizeof rseq), &rseq);
  if (got < 0 || rseq.address == 0) return true;  // a kernel without the request, or a thread without rseq
  uint64_t at;
  if (!peek(tid, rseq.address + kSequenceField, &at)) return false;
  if (at == 0) return true;
  Sequence sequence{};
  if (!peek(tid, at + offsetof(Sequence, start), &sequence.start) ||
      !peek(tid, at + offsetof(Sequence, length), &sequence.length) ||
      !peek(tid, at + offsetof(Sequence, abort), &sequence.abort))
    return false;
  if (arch::programCounter(registers) - sequence.start < sequence.length)
    arch::programCounter(registers) = sequence.abort;
  return true;
}

bool suspendDispatch(pid_t tid, PtraceDispatch& saved) {
  PtraceDispatch config;
  if (!dispatch(kPtraceGetDispatch, tid, &config) || config.mode == PR_SYS_DISPATCH_OFF) return true;
  // Before anything changes, a test that the kernel takes this configuration back (not a range that excludes: 6.17).
  PtraceDispatch same = config, off;
  if (!dispatch(kPtraceSetDispatch, tid, &same) || !dispatch(kPtraceSetDispatch, tid, &off)) return false;
  saved = config;
  return true;
}

void resumeDispatch(pid_t tid, const PtraceDispatch& saved) {
  PtraceDispatch config = saved;
  // It fails only for a thread that has died.
  if (config.mode != PR_SYS_DISPATCH_OFF) dispatch(kPtraceSetDispatch, tid, &config);
}

}  // namespace leap
