// The first thread sits in one system call (mode=NAME) when a pager comes and goes. None of these may return early or
// say EINTR: nobody sent a signal. Another thread waits for the line `stop` and then ends the wait in the ordinary way.
#include "target.h"

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>

static int ends[2];
static pthread_t first;
static sem_t semaphore;
static pid_t child;
static volatile int ended;

static void* ender(void* arg) {
  (void)arg;
  ready();
  await("stop");
  ended = 1;
  if (write(ends[1], "x", 1) != 1) fail_errno("write");
  sem_post(&semaphore);
  if (child) kill(child, SIGKILL);
  if (mode_is("sigtimedwait") || mode_is("sigwaitinfo")) pthread_kill(first, SIGUSR1);
  return NULL;
}

static void expect(const char* what, long got, long want) {
  if (got != want) {
    say("FAIL %s returned %ld (%s), not %ld%s\n", what, got, got < 0 ? strerror(errno) : "no error", want,
        ended ? "" : ", before its time");
    _exit(1);
  }
  if (!ended) fail(what, 0, 0, 1);
}

// Sleeps of 400 ms, one after the other, each to its full length.
static void sleep_until_ended(bool absolute) {
  while (!ended) {
    struct timespec t = {0, 400000000};
    uint64_t from = now_ns();
    if (absolute) {
      clock_gettime(CLOCK_MONOTONIC, &t);
      t.tv_nsec += 400000000;
      if (t.tv_nsec >= 1000000000) t.tv_sec++, t.tv_nsec -= 1000000000;
    }
    int error = absolute ? clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) : nanosleep(&t, NULL) ? errno : 0;
    if (error) errno = error, fail_errno("sleep");
    uint64_t took = now_ns() - from;
    if (took < 399999999 || took > 1400000000) fail("length of a sleep", 0, took, 400000000);
  }
}

static void block(void) {
  char byte;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  if (mode_is("read")) return expect("read", read(ends[0], &byte, 1), 1);
  if (mode_is("recv")) return expect("recv", recv(ends[0], &byte, 1, 0), 1);
  if (mode_is("epoll")) {
    int ep = MUST(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN};
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, ends[0], &event));
    return expect("epoll_wait", epoll_wait(ep, &event, 1, -1), 1);
  }
  if (mode_is("epoll-timeout")) {
    int ep = MUST(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN};
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, ends[0], &event));
    for (;;) {  // a time-out is 400 ms, whole
      uint64_t from = now_ns();
      int n = epoll_wait(ep, &event, 1, 400);
      if (n != 0) return expect("epoll_wait", n, 1);
      if (now_ns() - from < 399000000) fail("epoll_wait's time", 0, now_ns() - from, 400000000);
    }
  }
  if (mode_is("poll")) {
    struct pollfd p = {.fd = ends[0], .events = POLLIN};
    return expect("poll", poll(&p, 1, -1), 1);
  }
  if (mode_is("select")) {
    fd_set fds;
    FD_ZERO(&fds);
    FD_SET(ends[0], &fds);
    return expect("select", select(ends[0] + 1, &fds, NULL, NULL, NULL), 1);
  }
  if (mode_is("futex")) return expect("sem_wait", sem_wait(&semaphore), 0);
  if (mode_is("nanosleep")) return sleep_until_ended(false);
  if (mode_is("clock_nanosleep")) return sleep_until_ended(true);
  if (mode_is("sigtimedwait")) {
    struct timespec minute = {60, 0};
    return expect("sigtimedwait", sigtimedwait(&set, NULL, &minute), SIGUSR1);
  }
  if (mode_is("sigwaitinfo")) return expect("sigwaitinfo", sigwaitinfo(&set, NULL), SIGUSR1);
  if (mode_is("wait")) return expect("wait", wait(NULL), child);
  if (mode_is("running")) {  // in no call at all
    while (!ended) __asm__ volatile("pause");
    return;
  }
  fprintf(stderr, "unknown mode %s\n", opt.mode);
  exit(2);
}

int main(int argc, char** argv) {
  parse_options(argc, argv);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  MUST(sigprocmask(SIG_BLOCK, &set, NULL));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
  sem_init(&semaphore, 0, 0);
  first = pthread_self();
  struct area a = area_make(opt.pages, 0);
  area_fill(&a);
  if (mode_is("wait")) {
    child = MUST(fork());
    if (child == 0)
      for (;;) pause();
  }
  pthread_t thread;
  if (pthread_create(&thread, NULL, ender, NULL)) fail_errno("pthread_create");
  block();
  pthread_join(thread, NULL);
  done(area_sum(0, &a), 0);
  return 0;
}
