/** What a daemon that holds other processes' memory does at its start to keep that memory to itself. */
import { writeFileSync } from 'node:fs';

/** core(5): ELF headers alone; no mapping, private or shared, is written to a core dump. */
const COREDUMP_ELF_HEADERS = '0x10';

/**
 * From now on no core dump of this process holds its memory, and SIGUSR1 does not open Node's debugger, which would let
 * every local process run code in here. Never throws: a kernel without core dumps has no such file.
 */
export function guardProcess(): void {
  process.on('SIGUSR1', () => undefined); // a listener takes the place of the debugger's
  try {
    writeFileSync('/proc/self/coredump_filter', COREDUMP_ELF_HEADERS);
  } catch {
    // CONFIG_ELF_CORE is off: nothing is ever dumped
  }
}
