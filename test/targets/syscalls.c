// System calls whose arguments live in memory that may be elsewhere: buffers of read, write, pread, readv, sendmsg;
// futexes, mutexes and condition variables; epoll's event array; signal frames on an alternate stack; signal
// information. Each part is a thread of its own; each round runs all of them. Signals are kept away from all threads
// but those that ask for them: so nobody else may ever see EINTR.
#include "target.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

enum { PARTS = 7, STEPS = 60, ALT_STACK_PAGES = 16 };

static struct area own[PARTS];
static struct rng streams[PARTS];

static uint32_t any(int part) { return rng_below(&streams[part], own[part].pages); }

// ---- buffers

// n bytes through `write` of one page and `read` into another; the second then holds the first's bytes.
static void copied(int part, uint32_t to, uint32_t from) {
  struct page model = own[part].model[from];
  page_check("copied by a system call", area_page(&own[part], to), &model);
  page_write(area_page(&own[part], to), &own[part].model[to]);
}

static void* buffers(void* arg) {
  int part = (uintptr_t)arg, pipe_ends[2], sockets[2];
  char name[] = "/tmp/leap-target-XXXXXX";
  int file = MUST(mkstemp(name));
  unlink(name);
  MUST(pipe(pipe_ends));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
  struct area* a = &own[part];
  for (int i = 0; i < STEPS; i++) {
    uint32_t from = any(part), to = any(part), second = any(part);
    if (to == from || second == from || second == to) continue;
    if (MUST(write(pipe_ends[1], area_page(a, from), PAGE)) != PAGE) fail("pipe write", from, 0, 0);
    if (MUST(read(pipe_ends[0], area_page(a, to), PAGE)) != PAGE) fail("pipe read", to, 0, 0);
    copied(part, to, from);
    if (MUST(pwrite(file, area_page(a, from), PAGE, PAGE * (i % 8))) != PAGE) fail("pwrite", from, 0, 0);
    if (MUST(pread(file, area_page(a, to), PAGE, PAGE * (i % 8))) != PAGE) fail("pread", to, 0, 0);
    copied(part, to, from);
    struct iovec out[2] = {{area_page(a, from), PAGE}, {area_page(a, second), PAGE}};
    if (MUST(pwritev(file, out, 2, 0)) != 2 * PAGE) fail("pwritev", from, 0, 0);
    struct iovec in[2] = {{area_page(a, second), PAGE}, {area_page(a, to), PAGE}};
    struct page was = a->model[second];
    if (MUST(preadv(file, in, 2, 0)) != 2 * PAGE) fail("preadv", second, 0, 0);
    page_check("preadv", area_page(a, to), &was);
    page_write(area_page(a, to), &a->model[to]);
    copied(part, second, from);
    struct msghdr send = {.msg_iov = out, .msg_iovlen = 1}, receive = {.msg_iov = in + 1, .msg_iovlen = 1};
    if (MUST(sendmsg(sockets[0], &send, 0)) != PAGE) fail("sendmsg", from, 0, 0);
    if (MUST(recvmsg(sockets[1], &receive, MSG_WAITALL)) != PAGE) fail("recvmsg", to, 0, 0);
    copied(part, to, from);
  }
  close(file), close(pipe_ends[0]), close(pipe_ends[1]), close(sockets[0]), close(sockets[1]);
  return NULL;
}

// ---- locks: two threads hand a turn to and fro through a condition variable that lies in a page of its own

struct rally {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  uint64_t turn;
};

static struct rally* rally_at;

static void play(uint64_t side) {
  struct rally* rally = rally_at;
  for (uint64_t i = 0; i < STEPS; i++) {
    pthread_mutex_lock(&rally->mutex);
    while (rally->turn % 2 != side) pthread_cond_wait(&rally->changed, &rally->mutex);
    rally->turn++;
    pthread_cond_broadcast(&rally->changed);
    pthread_mutex_unlock(&rally->mutex);
    if (side == 0) area_churn(&own[1], &streams[1], 8);
  }
}

static void* other_side(void* arg) {
  play((uintptr_t)arg);
  return NULL;
}

static void* locks(void* arg) {
  int part = (uintptr_t)arg;
  rally_at = (struct rally*)map_pages(1);
  pthread_mutex_init(&rally_at->mutex, NULL);
  pthread_cond_init(&rally_at->changed, NULL);
  rally_at->turn = 0;
  pthread_t other;
  if (pthread_create(&other, NULL, other_side, (void*)1)) fail_errno("pthread_create");
  play(0);
  pthread_join(other, NULL);
  if (rally_at->turn != 2 * STEPS) fail("rally", 0, rally_at->turn, 2 * STEPS);
  MUST(munmap(rally_at, PAGE));
  // A bare futex on a stored page: a wait with a wrong value says EAGAIN, one with the right value times out.
  for (int i = 0; i < STEPS / 4; i++) {
    uint32_t* word = (uint32_t*)area_page(&own[part], any(part)) + 2;
    struct timespec ms = {0, 1000000};
    if (syscall(SYS_futex, word, 0x80, *(volatile uint32_t*)word + 1, &ms, NULL, 0) != -1 || errno != EAGAIN)
      fail("futex value", i, errno, EAGAIN);
    if (syscall(SYS_futex, word, 0x80, *(volatile uint32_t*)word, &ms, NULL, 0) != -1 || errno != ETIMEDOUT)
      fail("futex wait", i, errno, ETIMEDOUT);
    if (syscall(SYS_futex, word, 0x81, 1, NULL, NULL, 0) != 0) fail("futex wake", i, errno, 0);
  }
  return NULL;
}

// ---- epoll: the events are written to a page that may be away

static void* epolls(void* arg) {
  int part = (uintptr_t)arg, ep = MUST(epoll_create1(EPOLL_CLOEXEC)), wake = MUST(eventfd(0, EFD_CLOEXEC));
  struct epoll_event want = {.events = EPOLLIN, .data.u64 = opt.seed * 77};
  MUST(epoll_ctl(ep, EPOLL_CTL_ADD, wake, &want));
  for (int i = 0; i < STEPS; i++) {
    uint32_t at = any(part);
    struct epoll_event* events = (struct epoll_event*)area_page(&own[part], at);
    uint64_t one = 1;
    if (i % 2) {
      if (write(wake, &one, sizeof one) != sizeof one) fail_errno("eventfd");
      int n = MUST(epoll_wait(ep, events, PAGE / sizeof *events, 1000));
      if (n != 1 || events[0].data.u64 != want.data.u64) fail("epoll_wait", at, n, 1);
      if (read(wake, &one, sizeof one) != sizeof one) fail_errno("eventfd");
    } else if (MUST(epoll_wait(ep, events, PAGE / sizeof *events, 2)) != 0) {
      fail("epoll_wait without an event", at, 0, 0);
    }
    page_write(area_page(&own[part], at), &own[part].model[at]);
  }
  close(ep), close(wake);
  return NULL;
}

// ---- signals at 1 kHz, on an alternate stack that is paged like everything else; the handler reads and writes pages

static struct area* handled;
static volatile uint64_t handler_runs;

static void on_tick(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)info, (void)context;
  volatile char room[3 * PAGE];  // reach down the alternate stack
  room[0] = room[PAGE] = room[2 * PAGE] = 1;
  uint32_t i = handler_runs * 37 % handled->pages;
  page_check("in the handler", area_page(handled, i), &handled->model[i]);
  page_touch(area_page(handled, i), &handled->model[i]);
  handler_runs++;
}

static void* ticking(void* arg) {
  int part = (uintptr_t)arg;
  static struct area
      pages;  // kept from round to round; how often each is stamped depends on time, so they are not in the checksum
  if (!pages.base) {
    pages = area_make(own[part].pages, 7000000);
    area_fill(&pages);
  }
  handled = &pages;
  stack_t stack = {.ss_sp = map_pages(ALT_STACK_PAGES), .ss_size = ALT_STACK_PAGES * PAGE};
  MUST(sigaltstack(&stack, NULL));
  struct sigaction action = {.sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
  MUST(sigaction(SIGRTMIN, &action, NULL));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN);
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN};
  event._sigev_un._tid = gettid();
  timer_t timer;
  MUST(timer_create(CLOCK_MONOTONIC, &event, &timer));
  struct itimerspec every_ms = {{0, 1000000}, {0, 1000000}};
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
  MUST(timer_settime(timer, 0, &every_ms, NULL));
  area_churn(&own[part], &streams[part], STEPS * 8);
  uint64_t seen = handler_runs, until = now_ns() + 2000000000ull;
  while (handler_runs < seen + 20 && now_ns() < until) area_check("between ticks", &own[part]);
  if (handler_runs < seen + 20) fail("ticks", 0, handler_runs - seen, 20);
  timer_delete(timer);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  stack.ss_flags = SS_DISABLE;
  MUST(sigaltstack(&stack, NULL));
  MUST(munmap(stack.ss_sp, ALT_STACK_PAGES * PAGE));
  return NULL;
}

// ---- signals that are waited for: each value once and in order

static void* signals(void* arg) {
  int part = (uintptr_t)arg;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 1);
  for (int i = 0; i < STEPS; i++) {
    uint32_t at = any(part);
    siginfo_t* info = (siginfo_t*)area_page(&own[part], at);
    union sigval value = {.sival_int = i};
    struct timespec second = {1, 0}, ms = {0, 1000000};
    if (pthread_sigqueue(pthread_self(), SIGRTMIN + 1, value)) fail_errno("pthread_sigqueue");
    if (sigtimedwait(&set, info, &second) != SIGRTMIN + 1 || info->si_value.sival_int != i)
      fail("sigtimedwait", at, errno, i);
    if (i % 8 == 0 && (sigtimedwait(&set, info, &ms) != -1 || errno != EAGAIN))
      fail("sigtimedwait without a signal", at, errno, EAGAIN);
    page_write(area_page(&own[part], at), &own[part].model[at]);
  }
  return NULL;
}

// ---- sleeps: never short, never interrupted; their arguments lie in pages too

static void* sleeps(void* arg) {
  int part = (uintptr_t)arg;
  for (int i = 0; i < STEPS / 4; i++) {
    uint32_t at = any(part);
    struct timespec* length = (struct timespec*)area_page(&own[part], at);
    *length = (struct timespec){0, 2000000};
    uint64_t from = now_ns();
    if (nanosleep(length, length + 1) != 0) fail("nanosleep", at, errno, 0);
    if (now_ns() - from < 2000000) fail("nanosleep too short", at, now_ns() - from, 2000000);
    page_write(area_page(&own[part], at), &own[part].model[at]);
    area_churn(&own[part], &streams[part], 16);
  }
  return NULL;
}

// ---- poll with a long time and another thread's write; the descriptors' array is in a page

static void* polls(void* arg) {
  int part = (uintptr_t)arg, ends[2];
  MUST(pipe(ends));
  for (int i = 0; i < STEPS / 2; i++) {
    uint32_t at = any(part);
    struct pollfd* p = (struct pollfd*)area_page(&own[part], at);
    *p = (struct pollfd){.fd = ends[0], .events = POLLIN};
    if (i % 2 && write(ends[1], "x", 1) != 1) fail_errno("write");
    int n = MUST(poll(p, 1, i % 2 ? 1000 : 2));
    if (n != i % 2 || (p->revents != 0) != (i % 2)) fail("poll", at, n, i % 2);
    if (i % 2 && read(ends[0], (char*)p + 100, 1) != 1) fail_errno("read");
    page_write(area_page(&own[part], at), &own[part].model[at]);
  }
  close(ends[0]), close(ends[1]);
  return NULL;
}

int main(int argc, char** argv) {
  parse_options(argc, argv);
  void* (*parts[PARTS])(void*) = {buffers, locks, epolls, ticking, signals, sleeps, polls};
  for (uint32_t t = 0; t < PARTS; t++) {
    own[t] = area_make(opt.pages / PARTS, 100000 * t);
    streams[t] = rng_make(t);
    area_fill(&own[t]);
  }
  sigset_t set;
  sigfillset(&set);
  sigdelset(&set, SIGTERM);
  MUST(sigprocmask(SIG_BLOCK, &set, NULL));
  ready();
  uint32_t round = 0;
  for (; more(round); round++) {
    pthread_t thread[PARTS];
    for (uintptr_t t = 0; t < PARTS; t++)
      if (pthread_create(&thread[t], NULL, parts[t], (void*)t)) fail_errno("pthread_create");
    for (int t = 0; t < PARTS; t++) pthread_join(thread[t], NULL);
  }
  hold();
  uint64_t sum = 0;
  for (int t = 0; t < PARTS; t++) sum = area_sum(sum, &own[t]);
  done(sum, round);
  return 0;
}
