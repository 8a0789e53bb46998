// What every target shares: options, the talk with the harness, and memory that verifies itself.
//
// A target fills its memory, prints `READY pid`, and waits for the line `go`. It then works for `rounds` rounds (0:
// until the line `stop`), checking every page it meets over all its bytes. With hold=1 it then prints `HOLD` and waits
// for another `go`, so that a pager can be detached in between. It ends with a last look at all of its memory and `DONE
// checksum rounds`, exit 0. A wrong byte is `FAIL what page got want`, exit 1. The checksum depends on the options
// alone (and the number of rounds), never on timing: a run under a pager must end with that of a run without.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

enum { PAGE = 4096, WORDS = PAGE / 8 };

static struct options {
  uint64_t seed;
  uint32_t pages;
  uint32_t rounds;
  uint32_t hold;
  const char* mode;
} opt = {.seed = 1, .pages = 1024, .rounds = 3, .hold = 0, .mode = ""};

// ---- the talk with the harness

UNUSED static void say(const char* format, ...) {
  char line[256];
  va_list args;
  va_start(args, format);
  int length = vsnprintf(line, sizeof line, format, args);
  va_end(args);
  if (write(STDOUT_FILENO, line, length) != length) _exit(3);
}

// Exit 1 whatever else is going on in the process: other threads may hold any lock.
UNUSED static _Noreturn void fail(const char* what, uint64_t page, uint64_t got, uint64_t want) {
  say("FAIL %s page %lu got %016lx want %016lx\n", what, page, got, want);
  _exit(1);
}

UNUSED static _Noreturn void fail_errno(const char* what) {
  say("FAIL %s: %s\n", what, strerror(errno));
  _exit(1);
}

#define MUST(call)                             \
  ({                                           \
    __typeof__(call) value_ = (call);          \
    if ((long)value_ == -1) fail_errno(#call); \
    value_;                                    \
  })

// Reads one line of stdin. False at its end.
static bool read_line(char* line, size_t room) {
  size_t length = 0;
  while (length + 1 < room) {
    ssize_t n = read(STDIN_FILENO, line + length, 1);
    if (n < 0) fail_errno("read stdin");
    if (n == 0) return false;
    if (line[length] == '\n') break;
    length++;
  }
  line[length] = 0;
  return true;
}

UNUSED static void await(const char* word) {
  char line[64];
  if (!read_line(line, sizeof line)) _exit(4);
  if (strcmp(line, word) != 0) {
    say("FAIL expected the line %s, got %s\n", word, line);
    _exit(1);
  }
}

UNUSED static void parse_options(int argc, char** argv) {
  for (int i = 1; i < argc; i++) {
    char* value = strchr(argv[i], '=');
    size_t name = value ? (size_t)(value - argv[i]) : 0;
    if (name == 4 && !memcmp(argv[i], "seed", 4))
      opt.seed = strtoull(value + 1, 0, 10);
    else if (name == 5 && !memcmp(argv[i], "pages", 5))
      opt.pages = strtoul(value + 1, 0, 10);
    else if (name == 6 && !memcmp(argv[i], "rounds", 6))
      opt.rounds = strtoul(value + 1, 0, 10);
    else if (name == 4 && !memcmp(argv[i], "hold", 4))
      opt.hold = strtoul(value + 1, 0, 10);
    else if (name == 4 && !memcmp(argv[i], "mode", 4))
      opt.mode = value + 1;
    else {
      fprintf(stderr, "usage: %s [seed=N] [pages=N] [rounds=N] [hold=1] [mode=WORD]\n", argv[0]);
      exit(2);
    }
  }
}

UNUSED static bool mode_is(const char* word) { return strcmp(opt.mode, word) == 0; }

UNUSED static void ready(void) {
  say("READY %d\n", getpid());
  await("go");
}

// Whether round number `round` (from 0) is to be run.
UNUSED static bool more(uint32_t round) {
  if (opt.rounds != 0) return round < opt.rounds;
  struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
  if (poll(&in, 1, 0) <= 0) return true;
  await("stop");
  return false;
}

UNUSED static void hold(void) {
  if (!opt.hold) return;
  say("HOLD\n");
  await("go");
}

UNUSED static void done(uint64_t checksum, uint32_t rounds) { say("DONE %016lx %u\n", checksum, rounds); }

// ---- numbers

UNUSED static uint64_t mix(uint64_t x) {  // splitmix64's finisher
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

struct rng {
  uint64_t state;
};
UNUSED static struct rng rng_make(uint64_t stream) {
  return (struct rng){mix(opt.seed * 0x9e3779b97f4a7c15ull + stream + 1)};
}
UNUSED static uint64_t rng_next(struct rng* r) { return mix(r->state += 0x9e3779b97f4a7c15ull); }
UNUSED static uint32_t rng_below(struct rng* r, uint32_t limit) { return rng_next(r) % limit; }

UNUSED static uint64_t fold(uint64_t sum, uint64_t value) { return mix(sum ^ value) + 0x9e3779b97f4a7c15ull; }

UNUSED static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

// ---- pages: what a page must hold follows from its key, its generation (0: zeros) and its stamp (writes to word 0
// alone since then)

struct page {
  uint32_t key, generation, stamp;
};

static inline uint64_t page_base(const struct page* p) {
  return mix(opt.seed ^ ((uint64_t)p->key << 32 | p->generation));
}
static inline uint64_t page_word(uint64_t base, uint32_t j) { return (base + j) * 0x9e3779b97f4a7c15ull; }
static inline uint64_t page_stamp(const struct page* p) { return mix((uint64_t)p->key << 32 | p->stamp) | 1; }

UNUSED static void page_write(void* memory, struct page* p) {
  uint64_t *word = memory, base;
  p->generation++;
  p->stamp = 0;
  base = page_base(p);
  for (uint32_t j = 0; j < WORDS; j++) word[j] = page_word(base, j);
}

// Reads word 0, checks it and writes it: the smallest possible dirtying.
UNUSED static void page_touch(void* memory, struct page* p) {
  volatile uint64_t* word = memory;
  uint64_t want = p->stamp ? page_stamp(p) : p->generation ? page_word(page_base(p), 0) : 0, got = word[0];
  if (got != want) fail("touch", p->key, got, want);
  p->stamp++;
  word[0] = page_stamp(p);
}

static uint64_t page_want(const struct page* p, uint64_t base, uint32_t j) {
  if (j == 0 && p->stamp) return page_stamp(p);
  return p->generation ? page_word(base, j) : 0;
}

UNUSED static void page_check(const char* what, const void* memory, const struct page* p) {
  const uint64_t* word = memory;
  uint64_t base = page_base(p);
  for (uint32_t j = 0; j < WORDS; j++) {
    uint64_t want = page_want(p, base, j), got = ((const volatile uint64_t*)word)[j];
    if (got != want) fail(what, p->key, got, want);
  }
}

UNUSED static uint64_t page_fold(uint64_t sum, const void* memory) {
  const uint64_t* word = memory;
  for (uint32_t j = 0; j < WORDS; j++) sum = (sum ^ word[j]) * 0x100000001b3ull + (sum >> 47);
  return sum;
}

// ---- areas: a mapping and what its pages must hold

struct area {
  char* base;
  struct page* model;
  uint32_t pages;
};

UNUSED static char* map_pages(uint32_t pages) {
  return MUST(mmap(NULL, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

UNUSED static struct area area_make(uint32_t pages, uint32_t first_key) {
  struct area a = {.base = map_pages(pages), .model = calloc(pages, sizeof(struct page)), .pages = pages};
  for (uint32_t i = 0; i < pages; i++) a.model[i].key = first_key + i;
  return a;
}

static inline char* area_page(const struct area* a, uint32_t i) { return a->base + (size_t)i * PAGE; }

UNUSED static void area_fill(struct area* a) {
  for (uint32_t i = 0; i < a->pages; i++) page_write(area_page(a, i), &a->model[i]);
}

UNUSED static void area_check(const char* what, const struct area* a) {
  for (uint32_t i = 0; i < a->pages; i++) page_check(what, area_page(a, i), &a->model[i]);
}

// Checks everything and gives its checksum.
UNUSED static uint64_t area_sum(uint64_t sum, const struct area* a) {
  for (uint32_t i = 0; i < a->pages; i++) {
    page_check("final", area_page(a, i), &a->model[i]);
    sum = page_fold(sum, area_page(a, i));
  }
  return sum;
}

// The common work: runs forwards, backwards, by strides and at random; reads, whole writes and one-word writes; about
// `steps` pages touched.
UNUSED static void area_churn(struct area* a, struct rng* r, uint32_t steps) {
  while (steps > 0) {
    uint32_t kind = rng_below(r, 8), at = rng_below(r, a->pages), length = 1 + rng_below(r, 64);
    int64_t stride = kind < 3 ? 1 : kind == 3 ? -1 : kind == 4 ? 2 + (int64_t)rng_below(r, 10) : 0;
    uint32_t act = rng_below(r, 4);
    for (uint32_t i = 0; i < length && steps > 0; i++, steps--) {
      if (stride == 0) at = rng_below(r, a->pages);
      char* memory = area_page(a, at);
      if (act == 0)
        page_write(memory, &a->model[at]);
      else if (act == 1)
        page_touch(memory, &a->model[at]);
      else
        page_check("churn", memory, &a->model[at]);
      at = (at + a->pages + stride) % a->pages;
    }
  }
}
