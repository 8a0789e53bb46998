// A memory-hungry program for the demonstration: fills MIB megabytes with numbers, works over them in order, with a
// stride, at random and by writing, and prints a checksum of everything it saw. The same arguments give the same
// checksum, with or without a pager.
//
//   demo-program MIB ROUNDS
//
// Three steps, each begun by a line on its standard input (the first by its start):
//   fill      "ready"
//   work      "worked SECONDS"
//   check     "checksum HEX": of all that was read, and of every byte as it is now
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { PAGE = 4096, WORDS = PAGE / sizeof(uint64_t), STRIDE = 10 };

static uint64_t random_state = 0x9e3779b97f4a7c15u;

static uint64_t random_next(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

static uint64_t fold(uint64_t sum, uint64_t value) { return (sum ^ value) * 0x100000001b3u; }

static uint64_t read_page(uint64_t sum, const uint64_t* page) {
  for (int i = 0; i < WORDS; i++) sum = fold(sum, page[i]);
  return sum;
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

// Says how far it is, and waits to be told to go on.
static int step(const char* done) {
  printf("%s\n", done);
  fflush(stdout);
  return getchar() != EOF;
}

int main(int argc, char** argv) {
  if (argc != 3 || atol(argv[1]) <= 0 || atol(argv[2]) <= 0) {
    fprintf(stderr, "usage: demo-program MIB ROUNDS\n");
    return 2;
  }
  size_t pages = (size_t)atol(argv[1]) * 256;
  long rounds = atol(argv[2]);
  uint64_t* memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    perror("mmap");
    return 1;
  }
  for (size_t i = 0; i < pages * WORDS; i++) memory[i] = random_next();
  uint64_t sum = 0xcbf29ce484222325u;
  if (!step("ready")) return 1;

  double begin = seconds();
  for (long round = 0; round < rounds; round++) {
    for (size_t p = 0; p < pages; p++) sum = read_page(sum, memory + p * WORDS);
    for (size_t first = 0; first < STRIDE; first++) {
      for (size_t p = first; p < pages; p += STRIDE) sum = read_page(sum, memory + p * WORDS);
    }
    for (size_t n = 0; n < pages / 16; n++) sum = read_page(sum, memory + random_next() % pages * WORDS);
    for (size_t p = 0; p < pages; p++) memory[p * WORDS + random_next() % WORDS] ^= sum;
  }
  char result[64];
  snprintf(result, sizeof result, "worked %.3f", seconds() - begin);
  if (!step(result)) return 1;

  for (size_t i = 0; i < pages * WORDS; i++) sum = fold(sum, memory[i]);
  printf("checksum %016" PRIx64 "\n", sum);
  return 0;
}
