// While it lives, blocking system calls of this thread end with EINTR every few milliseconds, so that a wait without a
// time limit of its own (waitpid) can be given one. (One that is kept ticks between start and stop only.) Better than
// looking again and again: on a busy machine whoever yields the processor gets it back only after the others' turns.
#pragma once
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace leap {

class Ticker {
 public:
  explicit Ticker(bool now = true) {
    static const bool installed = install();
    if (!installed) return;
    sigset_t own;
    sigemptyset(&own);
    sigaddset(&own, signalNumber());
    pthread_sigmask(SIG_UNBLOCK, &own, &before_);
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = signalNumber();
    event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
    running_ = timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0;
    if (now) start(kNanoseconds);
  }
  void start(long nanoseconds) {
    const itimerspec every{{0, nanoseconds}, {0, nanoseconds}};
    if (running_) timer_settime(timer_, 0, &every, nullptr);
  }
  void stop() { start(0); }
  ~Ticker() {
    if (running_) timer_delete(timer_);
    if (running_) pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  Ticker(const Ticker&) = delete;
  Ticker& operator=(const Ticker&) = delete;
  bool running() const { return running_; }  // false: no timer to be had; look again and again, then

 private:
  static constexpr long kNanoseconds = 20000000;
  // A real-time signal that nothing else here uses. Directed at one thread; its handler does nothing.
  static int signalNumber() { return SIGRTMAX - 5; }
  static bool install() {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    return sigaction(signalNumber(), &action, nullptr) == 0;  // without SA_RESTART
  }

  timer_t timer_{};
  sigset_t before_{};
  bool running_ = false;
};

}  // namespace leap
