/** The program of the demonstrations, compiled when it is not. */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const source = fileURLToPath(new URL('../../scripts/demo-program.c', import.meta.url));

/** @returns its path. */
export function buildDemoProgram(): string {
  const program = fileURLToPath(new URL('../../build/demo-program', import.meta.url));
  mkdirSync(new URL('../../build/', import.meta.url), { recursive: true });
  const compiled = spawnSync('gcc', ['-O2', '-o', program, source], { stdio: 'inherit' });
  if (compiled.status !== 0) throw new Error('gcc could not build the demo program');
  return program;
}
