// The floor under a demand fault: how long a touch of a missing page takes when a plain C handler in another process
// serves it from memory.
//
// usage: floor serve same|other PAGES [poll]   forks a target and serves it: on the target's CPU, blocking in read(2)
// (with `poll`: in poll(2), then
//                                              read), or on another CPU, spinning on a non-blocking read
//        floor target CPU PAGES                the same target alone, for a pager under test: fills its pages, says
//        READY, waits for a line on
//                                              stdin, touches each page once, and waits for another line
// Either prints the touches' p50 and p99 in ns as JSON; the first third is to warm up, and not counted. In both cases
// the pages were present once, so that their page tables exist.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, MAX_PAGES = 1 << 17, MESSAGES = 16, LONGEST_SECONDS = 60 };

static void die(const char* what) {
  fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set)) die("sched_setaffinity");
}

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static unsigned char* filled(size_t pages) {
  unsigned char* at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED || madvise(at, pages * PAGE, MADV_NOHUGEPAGE)) die("mmap");
  for (size_t page = 0; page < pages; page++) memset(at + page * PAGE, page % 251 + 1, PAGE);
  return at;
}

static int64_t latency_ns[MAX_PAGES];

static int ascending(const void* a, const void* b) {
  const int64_t x = *(const int64_t*)a, y = *(const int64_t*)b;
  return x < y ? -1 : x > y;
}

static void touch_all(const volatile unsigned char* at, size_t pages) {
  memset(latency_ns, 0, pages * sizeof *latency_ns);  // so that the only faults that are timed are the region's
  const size_t counted = pages - pages / 3;
  size_t wrong = 0;
  for (size_t page = 0; page < pages; page++) {
    const int64_t start = now_ns();
    const unsigned char seen = at[page * PAGE];
    latency_ns[page] = now_ns() - start;
    wrong += seen != page % 251 + 1;
  }
  int64_t* sorted = latency_ns + pages - counted;
  qsort(sorted, counted, sizeof *sorted, ascending);
  printf("{\"touches\":%zu,\"p50Ns\":%ld,\"p99Ns\":%ld,\"maxNs\":%ld,\"wrong\":%zu}\n", counted, sorted[counted / 2],
         sorted[counted * 99 / 100], sorted[counted - 1], wrong);
  fflush(stdout);
}

static void send_fd(int socket, int fd, void* region) {
  char control[CMSG_SPACE(sizeof fd)] = {0};
  struct iovec io = {&region, sizeof region};
  struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  if (sendmsg(socket, &message, 0) != sizeof region) die("sendmsg");
}

static int receive_fd(int socket, unsigned char** region) {
  char control[CMSG_SPACE(sizeof(int))];
  struct iovec io = {region, sizeof *region};
  struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != sizeof *region || !CMSG_FIRSTHDR(&message))
    die("the target sent no userfaultfd");
  int fd;
  memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  return fd;
}

// In the child: a region whose pages are all missing, registered as leapd registers one.
static void faulting_child(int socket, int cpu, size_t pages, int nonblocking) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  pin(cpu);
  unsigned char* region = filled(pages);
  const int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | (nonblocking ? O_NONBLOCK : 0));
  if (uffd < 0) die("userfaultfd");
  struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_PAGEFAULT_FLAG_WP};
  struct uffdio_register range = {.range = {(uintptr_t)region, pages * PAGE},
                                  .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP};
  if (ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &range)) die("UFFDIO_REGISTER");
  if (madvise(region, pages * PAGE, MADV_DONTNEED)) die("madvise");
  send_fd(socket, uffd, region);
  char go;
  if (read(socket, &go, 1) != 1) die("the handler is gone");
  touch_all(region, pages);
  exit(0);
}

static void serve(int uffd, const unsigned char* frames, const unsigned char* region, size_t pages, int polls) {
  for (size_t served = 0; served < pages;) {
    struct uffd_msg message[MESSAGES];
    struct pollfd ready = {.fd = uffd, .events = POLLIN};
    if (polls && poll(&ready, 1, 10000) != 1) die("no fault came");
    const ssize_t got = read(uffd, message, sizeof message);
    if (got < 0 && errno == EAGAIN) continue;
    if (got <= 0) die("read");
    for (size_t i = 0; i < got / sizeof *message; i++) {
      const uint64_t at = message[i].arg.pagefault.address & ~(PAGE - 1ull);
      struct uffdio_copy copy = {.dst = at, .src = (uintptr_t)frames + (at - (uintptr_t)region), .len = PAGE};
      if (ioctl(uffd, UFFDIO_COPY, &copy)) die("UFFDIO_COPY");
      served++;
    }
  }
}

int main(int argc, char** argv) {
  const size_t pages = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
  if (pages < 1 || pages > MAX_PAGES)
    return fprintf(stderr, "usage: floor serve same|other PAGES [poll] | floor target CPU PAGES\n"), 2;
  if (!strcmp(argv[1], "target")) {
    pin(atoi(argv[2]));
    const unsigned char* region = filled(pages);
    printf("READY %d %p %zu\n", getpid(), (const void*)region, pages);
    fflush(stdout);
    char line[8];
    if (!fgets(line, sizeof line, stdin)) return 1;
    touch_all(region, pages);
    return fgets(line, sizeof line, stdin) ? 0 : 1;
  }
  const int other = !strcmp(argv[2], "other");
  alarm(LONGEST_SECONDS);  // neither side waits for ever for the other
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed)) die("sched_getaffinity");
  int cpus[2] = {-1, -1};
  for (int cpu = 0; cpu < CPU_SETSIZE && cpus[1] < 0; cpu++)
    if (CPU_ISSET(cpu, &allowed)) cpus[cpus[0] >= 0] = cpu;
  if (other && cpus[1] < 0) return fprintf(stderr, "floor: there is one CPU only\n"), 1;
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) die("socketpair");
  const pid_t child = fork();
  if (child < 0) die("fork");
  if (child == 0) faulting_child(pair[1], cpus[0], pages, other);
  close(pair[1]);
  pin(cpus[other]);
  unsigned char *frames = filled(pages), *region;
  const int uffd = receive_fd(pair[0], &region);
  if (write(pair[0], "g", 1) != 1) die("write");
  serve(uffd, frames, region, pages, argc > 4);
  int status;
  return waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
}
