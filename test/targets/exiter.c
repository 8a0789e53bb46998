// Ends while faults are open. mode=threads (the default): threads come and go in the middle of their work, the process
// lives. mode=exit: _exit(7) beside faulting threads.   mode=kill: SIGKILL to itself.   mode=abort: SIGABRT.
// mode=leader: the first thread leaves with pthread_exit and the others go on, so that the process has a dead leader.
#include "target.h"

#include <pthread.h>
#include <signal.h>

enum { THREADS = 5 };

static struct area own[THREADS];
static struct rng streams[THREADS];
static uint32_t leader_rounds;

static void* some_work(void* arg) {
  uintptr_t id = (uintptr_t)arg;
  area_churn(&own[id], &streams[id], own[id].pages);
  pthread_exit(NULL);
}

static void* for_ever(void* arg) {
  uintptr_t id = (uintptr_t)arg;
  for (uint32_t i = 0; i < 10000000; i++) area_churn(&own[id], &streams[id], own[id].pages);
  return NULL;
}

static uint64_t sum_all(void) {
  uint64_t sum = 0;
  for (int t = 0; t < THREADS; t++) sum = area_sum(sum, &own[t]);
  return sum;
}

static void run_round(void) {
  pthread_t thread[THREADS];
  for (uintptr_t t = 0; t < THREADS; t++)
    if (pthread_create(&thread[t], NULL, some_work, (void*)t)) fail_errno("pthread_create");
  for (int t = 0; t < THREADS; t++) pthread_join(thread[t], NULL);
}

static void* after_the_leader(void* arg) {
  pthread_t* leader = arg;
  pthread_join(*leader, NULL);
  for (; more(leader_rounds); leader_rounds++) run_round();
  hold();
  done(sum_all(), leader_rounds);
  exit(0);
}

int main(int argc, char** argv) {
  parse_options(argc, argv);
  for (int t = 0; t < THREADS; t++) {
    own[t] = area_make(opt.pages / THREADS, 100000 * t);
    streams[t] = rng_make(t);
    area_fill(&own[t]);
  }
  ready();
  if (mode_is("leader")) {
    static pthread_t self, other;
    self = pthread_self();
    if (pthread_create(&other, NULL, after_the_leader, &self)) fail_errno("pthread_create");
    pthread_exit(NULL);
  }
  if (mode_is("exit") || mode_is("kill") || mode_is("abort")) {
    pthread_t t;
    for (uintptr_t i = 0; i < THREADS; i++)
      if (pthread_create(&t, NULL, for_ever, (void*)i)) fail_errno("pthread_create");
    struct timespec a_while = {0, 300000000};
    nanosleep(&a_while, NULL);
    if (mode_is("kill")) kill(getpid(), SIGKILL);
    if (mode_is("abort")) abort();
    _exit(7);
  }
  uint32_t round = 0;
  for (; more(round); round++) run_round();
  hold();
  done(sum_all(), round);
  return 0;
}
