// Memory that comes after attach: the heap's break up and down, malloc and free of all sizes, realloc (mremap inside),
// and new mappings.
#include "target.h"

#include <malloc.h>

enum { BLOCKS = 300, MAPPINGS = 24 };

static struct block {
  uint64_t* words;
  uint32_t count, key;
} blocks[BLOCKS];
static struct area mappings[MAPPINGS];
static uint32_t next_key = 1;

static uint64_t block_word(const struct block* b, uint32_t j) { return mix(opt.seed ^ ((uint64_t)b->key << 32 | j)); }

static void block_write(struct block* b, uint32_t from) {
  for (uint32_t j = from; j < b->count; j++) b->words[j] = block_word(b, j);
}

static uint64_t block_check(const struct block* b, uint64_t sum) {
  for (uint32_t j = 0; j < b->count; j++) {
    uint64_t got = ((volatile uint64_t*)b->words)[j];
    if (got != block_word(b, j)) fail("block", b->key, got, block_word(b, j));
    sum = fold(sum, got);
  }
  return sum;
}

// Mostly small, sometimes some pages, sometimes past malloc's own threshold for a mapping (128 KiB).
static uint32_t block_size(struct rng* r) {
  uint32_t kind = rng_below(r, 10);
  return 2 + (kind < 6 ? rng_below(r, 128) : kind < 9 ? rng_below(r, 8192) : rng_below(r, 40000));
}

static void step(struct rng* r) {
  struct block* b = &blocks[rng_below(r, BLOCKS)];
  if (!b->words) {
    b->count = block_size(r);
    b->key = next_key++;
    b->words = malloc(b->count * sizeof(uint64_t));
    block_write(b, 0);
  } else if (rng_below(r, 3) == 0) {
    uint32_t before = b->count;
    b->count = block_size(r);
    b->words = realloc(b->words, b->count * sizeof(uint64_t));
    if (b->count > before) block_write(b, before);
    block_check(b, 0);
  } else {
    block_check(b, 0);
    free(b->words);
    *b = (struct block){0};
  }
}

static void map_step(struct rng* r) {
  struct area* a = &mappings[rng_below(r, MAPPINGS)];
  if (!a->base) {
    uint32_t pages = 1 + rng_below(r, opt.pages / MAPPINGS * 2);
    *a = area_make(pages, next_key++ * 1000);
    for (uint32_t i = 0; i < pages; i++) page_check("new mapping", area_page(a, i), &a->model[i]);
    area_fill(a);
  } else {
    area_churn(a, r, a->pages);
    if (rng_below(r, 4) == 0) {
      area_check("before unmap", a);
      MUST(munmap(a->base, (size_t)a->pages * PAGE));
      free(a->model);
      *a = (struct area){0};
    }
  }
}

// The break itself, beside malloc: a piece is added, must be zeros, is used, and given back when nobody came after it.
static void break_step(struct rng* r) {
  size_t length = (1 + rng_below(r, 64)) * PAGE;
  uint64_t* piece = MUST(sbrk(length));
  for (size_t j = 0; j < length / 8; j++)
    if (((volatile uint64_t*)piece)[j] != 0) fail("new break", j / WORDS, piece[j], 0);
  for (size_t j = 0; j < length / 8; j += 64) piece[j] = mix(j);
  for (size_t j = 0; j < length / 8; j++) {
    uint64_t want = j % 64 ? 0 : mix(j);
    if (((volatile uint64_t*)piece)[j] != want) fail("break", j / WORDS, piece[j], want);
  }
  if (sbrk(0) == (char*)piece + length) MUST(sbrk(-(intptr_t)length));
}

int main(int argc, char** argv) {
  parse_options(argc, argv);
  mallopt(M_TRIM_THRESHOLD, 64 * 1024);  // let the break go down often
  mallopt(M_MMAP_THRESHOLD, 128 * 1024);
  struct rng r = rng_make(0);
  for (int i = 0; i < 150; i++) step(&r);
  ready();
  uint32_t round = 0;
  for (; more(round); round++) {
    for (int i = 0; i < 120; i++) step(&r);
    for (int i = 0; i < 16; i++) map_step(&r);
    for (int i = 0; i < 3; i++) break_step(&r);
    malloc_trim(0);
  }
  hold();
  uint64_t sum = 0;
  for (int i = 0; i < BLOCKS; i++)
    if (blocks[i].words) sum = block_check(&blocks[i], sum);
  for (int i = 0; i < MAPPINGS; i++)
    if (mappings[i].base) sum = area_sum(sum, &mappings[i]);
  done(sum, round);
  return 0;
}
