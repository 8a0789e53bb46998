// Several threads fault at once: on the same page (all walk one area in step), on pages of their own, on words of one
// page (atomic counters), and on their stacks. mode=churn: threads in thousands, short lives, each joined; half of them
// end without a last look at their own memory.
#include "target.h"

#include <pthread.h>
#include <sys/syscall.h>

enum { THREADS = 6, COUNTERS = 8, STACK_PAGES = 12 };

static struct area shared, counters, own[THREADS];
static uint64_t* added[THREADS];  // what this thread has added to counter word w of page p, at p * COUNTERS + w
static pthread_barrier_t barrier;
static uint32_t rounds_run;
static bool go_on;

static uint64_t* counter_word(uint32_t page, uint32_t w) {
  return (uint64_t*)area_page(&counters, page) + w * (WORDS / COUNTERS) + 1;
}

static __attribute__((noinline)) void stack_work(struct area* a, struct rng* r, uint32_t id) {
  uint64_t local[STACK_PAGES * WORDS];
  for (uint32_t i = 0; i < STACK_PAGES * WORDS; i++) ((volatile uint64_t*)local)[i] = mix(id + i);
  area_churn(a, r, a->pages / 4);
  for (uint32_t i = 0; i < STACK_PAGES * WORDS; i++)
    if (((volatile uint64_t*)local)[i] != mix(id + i)) fail("stack", i / WORDS, local[i], mix(id + i));
}

static void check_counters(void) {
  for (uint32_t p = 0; p < counters.pages; p++) {
    const uint64_t* word = (const uint64_t*)area_page(&counters, p);
    uint64_t base = page_base(&counters.model[p]);
    for (uint32_t j = 0; j < WORDS; j++) {
      uint64_t want = page_word(base, j);
      if (j % (WORDS / COUNTERS) == 1)
        for (uint32_t t = 0; t < THREADS; t++) want += added[t][p * COUNTERS + j / (WORDS / COUNTERS)];
      if (word[j] != want) fail("counter", p, word[j], want);
    }
  }
}

static void* work(void* arg) {
  uint32_t id = (uintptr_t)arg;
  struct rng r = rng_make(id);
  for (;;) {
    if (id == 0) go_on = more(rounds_run);
    pthread_barrier_wait(&barrier);
    if (!go_on) return NULL;
    for (uint32_t i = 0; i < shared.pages; i++) page_check("shared", area_page(&shared, i), &shared.model[i]);
    for (uint32_t i = 0; i < counters.pages * 2; i++) {
      uint32_t page = rng_below(&r, counters.pages), w = rng_below(&r, COUNTERS);
      uint64_t delta = rng_next(&r) >> 8;
      __atomic_fetch_add(counter_word(page, w), delta, __ATOMIC_SEQ_CST);
      added[id][page * COUNTERS + w] += delta;
    }
    stack_work(&own[id], &r, id);
    pthread_barrier_wait(&barrier);
    if (id == 0) {
      check_counters();
      rounds_run++;
    }
  }
}

static struct rng lives[THREADS];

// Nothing of the thread's is touched between the two calls: by the second its control block, which pthread_join waits
// for, may have been paged out.
static _Noreturn void sleep_and_exit(void) {
  struct timespec t = {.tv_nsec = 2000000};
  __asm__ volatile("syscall; mov %[exit], %%eax; xor %%edi, %%edi; syscall" ::"a"(SYS_nanosleep), "D"(&t),
                   "S"(0), [exit] "i"(SYS_exit)
                   : "rcx", "r11", "memory");
  __builtin_unreachable();
}

static void* live(void* arg) {
  uint32_t id = (uintptr_t)arg;
  area_churn(&own[id], &lives[id], 1 + rng_below(&lives[id], 8));
  if (id % 2 == 1) sleep_and_exit();
  return NULL;
}

static void churn(void) {
  enum { LIVES = 200, STACK = 128 << 10 };  // small ones are used again, so that they are known to whoever pages us
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, STACK);
  shared = area_make(opt.pages / 4, 9000000);
  area_fill(&shared);
  struct rng r = rng_make(THREADS);
  for (uint32_t t = 0; t < THREADS; t++) {
    own[t] = area_make(opt.pages / THREADS, t * 100000);
    area_fill(&own[t]);
    lives[t] = rng_make(t);
  }
  ready();
  uint32_t round = 0;
  for (; more(round); round++) {
    for (uint32_t n = 0; n < LIVES; n++) {
      pthread_t thread[THREADS];
      for (uintptr_t t = 0; t < THREADS; t++)
        if (pthread_create(&thread[t], &small, live, (void*)t)) fail_errno("pthread_create");
      area_churn(&shared, &r, 256);
      for (uint32_t t = 0; t < THREADS; t++) pthread_join(thread[t], NULL);
    }
  }
  hold();
  uint64_t sum = area_sum(0, &shared);
  for (uint32_t t = 0; t < THREADS; t++) sum = area_sum(sum, &own[t]);
  done(sum, round);
}

int main(int argc, char** argv) {
  parse_options(argc, argv);
  if (mode_is("churn")) {
    churn();
    return 0;
  }
  shared = area_make(opt.pages / 4, 0);
  counters = area_make(opt.pages / 4, 1000000);
  area_fill(&shared);
  area_fill(&counters);
  for (uint32_t t = 0; t < THREADS; t++) {
    own[t] = area_make(opt.pages / 2 / THREADS, 2000000 + t * 100000);
    area_fill(&own[t]);
    added[t] = calloc(counters.pages * COUNTERS, sizeof(uint64_t));
  }
  pthread_barrier_init(&barrier, NULL, THREADS);
  ready();
  pthread_t thread[THREADS];
  for (uintptr_t t = 0; t < THREADS; t++)
    if (pthread_create(&thread[t], NULL, work, (void*)t)) fail_errno("pthread_create");
  for (uint32_t t = 0; t < THREADS; t++) pthread_join(thread[t], NULL);
  hold();
  check_counters();
  uint64_t sum = area_sum(0, &shared);
  for (uint32_t p = 0; p < counters.pages; p++) sum = page_fold(sum, area_page(&counters, p));
  for (uint32_t t = 0; t < THREADS; t++) sum = area_sum(sum, &own[t]);
  done(sum, rounds_run);
  return 0;
}
