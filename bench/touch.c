// A program whose memory is paged by somebody: it fills a region with incompressible words, then touches its pages in
// the pattern named on each line of stdin, and says on one line of JSON how long a touch took and how many of the words
// it looked at were wrong.
//
// usage: touch MIB [SEED]        commands: seq stride random zipf write interleaved threads check quit
//
// Every page holds a xorshift stream of its own: word 0 follows from the seed and the page, word 1 also from the number
// of write passes. A touch looks at both; `check` looks at every word of the region. All is a function of the seed and
// of the commands so far.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
  PAGE_WORDS = 512,
  STRIDE = 10,
  HOT_PARTS = 5,
  STREAMS = 4
};  // one page in five is hot, and four touches in five go there

static uint64_t seed, pages, writes_done, half_bits, random_state;
static uint64_t* region;

static uint64_t mix(uint64_t x) {  // the finalizer of splitmix64: a bijection that scatters
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

static uint64_t xorshift(uint64_t* state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  return *state ^= *state << 17;
}

static uint64_t word0(uint64_t page) { return mix(seed + page * 0x9e3779b97f4a7c15u) | 1; }
static uint64_t word1(uint64_t page, uint64_t pass) { return mix(word0(page) + pass); }

// A permutation of the page numbers without a table of them (which would be paged as well): a Feistel network on the
// next even number of bits, walked until it lands inside.
static uint64_t permute(uint64_t page) {
  const uint64_t mask = (1u << half_bits) - 1;
  do {
    uint64_t left = page >> half_bits, right = page & mask;
    for (uint64_t round = 0; round < 4; round++) {
      const uint64_t next = left ^ (mix(seed + right * 4 + round) & mask);
      left = right, right = next;
    }
    page = left << half_bits | right;
  } while (page >= pages);
  return page;
}

static void fill(void) {
  for (uint64_t page = 0; page < pages; page++) {
    uint64_t *at = region + page * PAGE_WORDS, state = word0(page);
    at[0] = word0(page), at[1] = word1(page, 0);
    for (int word = 2; word < PAGE_WORDS; word++) at[word] = xorshift(&state);
  }
}

static uint64_t look(uint64_t page) {
  const uint64_t* at = region + page * PAGE_WORDS;
  return (at[0] != word0(page)) + (at[1] != word1(page, writes_done));
}

static uint64_t sequential(void) {
  uint64_t wrong = 0;
  for (uint64_t page = 0; page < pages; page++) wrong += look(page);
  return wrong;
}

static uint64_t stride(void) {
  uint64_t wrong = 0;
  for (uint64_t offset = 0; offset < STRIDE; offset++)
    for (uint64_t page = offset; page < pages; page += STRIDE) wrong += look(page);
  return wrong;
}

static uint64_t uniform(void) {
  uint64_t wrong = 0;
  for (uint64_t touch = 0; touch < pages; touch++) wrong += look(xorshift(&random_state) % pages);
  return wrong;
}

static uint64_t zipf(void) {
  const uint64_t hot = pages / HOT_PARTS;
  uint64_t wrong = 0;
  for (uint64_t touch = 0; touch < pages; touch++) {
    const uint64_t which = xorshift(&random_state) % HOT_PARTS, draw = xorshift(&random_state);
    wrong += look(permute(which ? draw % hot : hot + draw % (pages - hot)));
  }
  return wrong;
}

// One stream in each of STREAMS parts of the region: the even ones go up, the odd ones down.
static uint64_t stream_page(uint64_t stream, uint64_t step) {
  const uint64_t part = pages / STREAMS;
  return stream * part + (stream % 2 ? part - 1 - step : step);
}

static uint64_t interleaved(void) {
  const uint64_t part = pages / STREAMS;
  uint64_t wrong = 0, steps[STREAMS] = {0};
  for (uint64_t left = part * STREAMS; left > 0; left--) {
    uint64_t stream = xorshift(&random_state) % STREAMS;
    while (steps[stream] == part) stream = (stream + 1) % STREAMS;
    wrong += look(stream_page(stream, steps[stream]++));
  }
  return wrong;
}

static void* one_stream(void* stream) {
  uint64_t wrong = 0;
  for (uint64_t step = 0; step < pages / STREAMS; step++) wrong += look(stream_page((uintptr_t)stream, step));
  return (void*)(uintptr_t)wrong;
}

static uint64_t threads(void) {
  pthread_t thread[STREAMS];
  uint64_t wrong = 0, started = 0;
  while (started < STREAMS && pthread_create(&thread[started], NULL, one_stream, (void*)(uintptr_t)started) == 0)
    started++;
  for (uint64_t stream = 0; stream < started; stream++) {
    void* result;
    wrong += pthread_join(thread[stream], &result) != 0;
    wrong += (uintptr_t)result;
  }
  return wrong + (STREAMS - started);
}

static uint64_t write_pass(void) {
  uint64_t wrong = 0;
  for (uint64_t page = 0; page < pages; page++) {
    uint64_t* at = region + page * PAGE_WORDS;
    at[1] = word1(page, writes_done + 1);  // the write comes first, so that the fault is a writer's
    wrong += at[0] != word0(page);
  }
  writes_done++;
  return wrong;
}

static uint64_t checksum;
static uint64_t check(void) {
  uint64_t wrong = 0;
  checksum = 0;
  for (uint64_t page = 0; page < pages; page++) {
    const uint64_t* at = region + page * PAGE_WORDS;
    uint64_t state = word0(page);
    wrong += look(page);
    for (int word = 0; word < PAGE_WORDS; word++) {
      checksum = (checksum << 7 | checksum >> 57) ^ at[word];
      if (word >= 2) wrong += at[word] != xorshift(&state);
    }
  }
  return wrong;
}

static double now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static const struct {
  const char* name;
  uint64_t (*run)(void);
} patterns[] = {{"seq", sequential},   {"stride", stride},           {"random", uniform},  {"zipf", zipf},
                {"write", write_pass}, {"interleaved", interleaved}, {"threads", threads}, {"check", check}};

int main(int argc, char** argv) {
  const uint64_t mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
  if (mib < 1 || mib > 1 << 20 || argc > 3) return fprintf(stderr, "usage: touch MIB [SEED]\n"), 2;
  seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
  pages = mib << 8;
  while (1ull << 2 * half_bits < pages) half_bits++;
  random_state = mix(seed) | 1;
  region = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (region == MAP_FAILED || madvise(region, pages * 4096, MADV_NOHUGEPAGE)) return perror("touch: mmap"), 1;
  fill();
  printf("READY %d\n", getpid());
  fflush(stdout);

  char line[64];
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\n")] = 0;
    if (!strcmp(line, "quit")) return 0;
    size_t which = 0;
    while (which < sizeof patterns / sizeof *patterns && strcmp(line, patterns[which].name)) which++;
    if (which == sizeof patterns / sizeof *patterns) return fprintf(stderr, "touch: no command %s\n", line), 2;
    const double start = now_us();
    const uint64_t wrong = patterns[which].run();
    const double elapsed = now_us() - start;
    printf("{\"pattern\":\"%s\",\"touches\":%lu,\"usPerTouch\":%.4f,\"wrong\":%lu,\"checksum\":\"%016lx\"}\n", line,
           pages, elapsed / pages, wrong, checksum);
    fflush(stdout);
  }
  return 0;
}
