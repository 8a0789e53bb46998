// A 32-bit process, without a C library so that none need be installed for it: prints READY, then sleeps until killed
// (a minute at the most).
static int call(int nr, int a, int b, int c) {
  int r;
  __asm__ volatile("int $0x80" : "=a"(r) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory");
  return r;
}

void _start(void) {
  static char line[32] = "READY ";
  char digits[12];
  int pid = call(20, 0, 0, 0), n = 0, at = 6;
  while (pid > 0) digits[n++] = (char)('0' + pid % 10), pid /= 10;
  while (n > 0) line[at++] = digits[--n];
  line[at++] = '\n';
  call(4, 1, (int)line, at);
  int minute[2] = {60, 0};
  call(162, (int)minute, 0, 0);
  call(1, 0, 0, 0);
  for (;;) {}
}
