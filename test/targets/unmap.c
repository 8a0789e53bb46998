// Mappings that lose parts, move, grow and shrink: munmap at the head, the tail and in the middle, mmap over a part,
// and mremap in all its kinds. mode=dontunmap adds MREMAP_DONTUNMAP, which leaves an empty mapping where the memory
// was.
#include "target.h"

enum { AREAS = 6 };

static struct area areas[AREAS];
static uint32_t next_key = 1;

static size_t bytes(uint32_t pages) { return (size_t)pages * PAGE; }

static void fresh_models(struct area* a, uint32_t from, uint32_t to) {
  for (uint32_t i = from; i < to; i++) a->model[i] = (struct page){.key = next_key++};
}

static void resize_model(struct area* a, uint32_t pages) {
  a->model = realloc(a->model, (pages ? pages : 1) * sizeof(struct page));
  if (pages > a->pages) fresh_models(a, a->pages, pages);
  a->pages = pages;
}

static void renew(struct area* a, uint32_t pages) {
  *a = area_make(pages, 0);
  fresh_models(a, 0, pages);
  area_fill(a);
}

static void cut_tail(struct area* a, uint32_t k) {
  MUST(munmap(area_page(a, a->pages - k), bytes(k)));
  resize_model(a, a->pages - k);
}

static void cut_head(struct area* a, uint32_t k) {
  MUST(munmap(a->base, bytes(k)));
  a->base += bytes(k);
  memmove(a->model, a->model + k, (a->pages - k) * sizeof(struct page));
  resize_model(a, a->pages - k);
}

// A hole in the middle, and new memory in it: by munmap then mmap, or by one mmap over it. The area may be several
// mappings for the kernel then, which mremap does not resize: so it ends here.
static void replace_middle(struct area* a, struct rng* r, uint32_t k, bool over) {
  uint32_t at = rng_below(r, a->pages - k);
  if (!over) MUST(munmap(area_page(a, at), bytes(k)));
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | (over ? MAP_FIXED : MAP_FIXED_NOREPLACE);
  MUST(mmap(area_page(a, at), bytes(k), PROT_READ | PROT_WRITE, flags, -1, 0));
  fresh_models(a, at, at + k);
  area_check("a hole refilled", a);
  area_churn(a, r, a->pages);
  area_check("after a hole refilled", a);
  MUST(munmap(a->base, bytes(a->pages)));
  free(a->model);
  renew(a, opt.pages / AREAS);
}

static void grow(struct area* a, uint32_t k) {
  a->base = MUST(mremap(a->base, bytes(a->pages), bytes(a->pages + k), MREMAP_MAYMOVE));
  resize_model(a, a->pages + k);
}

static void shrink(struct area* a, uint32_t k) {
  MUST(mremap(a->base, bytes(a->pages), bytes(a->pages - k), 0));
  resize_model(a, a->pages - k);
}

// The hole that the tail leaves is free to grow into. Somebody may take it in between: then the memory moves.
static void grow_in_place(struct area* a, uint32_t k) {
  cut_tail(a, k);
  char* at = mremap(a->base, bytes(a->pages), bytes(a->pages + k), 0);
  if (at == MAP_FAILED) return grow(a, k);
  if (at != a->base) fail("grew elsewhere", 0, (uintptr_t)at, (uintptr_t)a->base);
  resize_model(a, a->pages + k);
}

static void move_to(struct area* a, char* to) {
  char* at = MUST(mremap(a->base, bytes(a->pages), bytes(a->pages), MREMAP_MAYMOVE | MREMAP_FIXED, to));
  if (at != to) fail("moved elsewhere", 0, (uintptr_t)at, (uintptr_t)to);
  a->base = to;
}

static void move_to_hole(struct area* a) {
  move_to(a, MUST(mmap(NULL, bytes(a->pages), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
}

// Moves `a` over `b`, whose memory is lost for it, as far as it reaches.
static void move_over(struct area* a, struct area* b) {
  if (b->pages < a->pages) {
    struct area* t = a;
    a = b, b = t;
  }
  uint32_t left = b->pages - a->pages;
  move_to(a, b->base);
  if (left) {
    char* rest = b->base + bytes(a->pages);
    for (uint32_t i = 0; i < left; i++) page_check("beyond the move", rest + bytes(i), &b->model[a->pages + i]);
    MUST(munmap(rest, bytes(left)));
  }
  free(b->model);
  renew(b, opt.pages / AREAS);
}

static void move_and_keep(struct area* a) {
  char* old = a->base;
  a->base = MUST(mremap(a->base, bytes(a->pages), bytes(a->pages), MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL));
  for (uint32_t i = 0; i < a->pages; i++) {
    struct page zero = {.key = a->model[i].key};
    page_check("left by a move", old + bytes(i), &zero);
    page_write(old + bytes(i), &zero);
    page_check("written after a move", old + bytes(i), &zero);
  }
  area_check("moved, not unmapped", a);
  MUST(munmap(old, bytes(a->pages)));
}

static void step(struct rng* r) {
  struct area* a = &areas[rng_below(r, AREAS)];
  uint32_t k = 1 + rng_below(r, a->pages / 2), kind = rng_below(r, mode_is("dontunmap") ? 11 : 10);
  switch (kind) {
    case 0: cut_tail(a, k); break;
    case 1: cut_head(a, k); break;
    case 2: replace_middle(a, r, k, false); break;
    case 3: replace_middle(a, r, k, true); break;
    case 4:
    case 5: grow(a, k); break;
    case 6: shrink(a, k); break;
    case 7: grow_in_place(a, k); break;
    case 8: move_to_hole(a); break;
    case 9: {
      struct area* b = &areas[rng_below(r, AREAS)];
      if (b != a) move_over(a, b);
      break;
    }
    default: move_and_keep(a);
  }
  area_check("after the change", a);
  area_churn(a, r, a->pages / 2);
  if (a->pages < opt.pages / AREAS / 4 || a->pages > opt.pages / AREAS * 4) {
    MUST(munmap(a->base, bytes(a->pages)));
    free(a->model);
    renew(a, opt.pages / AREAS);
  }
}

int main(int argc, char** argv) {
  parse_options(argc, argv);
  for (int i = 0; i < AREAS; i++) renew(&areas[i], opt.pages / AREAS);
  struct rng r = rng_make(0);
  ready();
  uint32_t round = 0;
  for (; more(round); round++)
    for (int i = 0; i < 16; i++) step(&r);
  hold();
  uint64_t sum = 0;
  for (int i = 0; i < AREAS; i++) sum = area_sum(sum, &areas[i]);
  done(sum, round);
  return 0;
}
