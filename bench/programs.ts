/** The C programs of the bench, compiled when their source is newer than they are. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../src/host/checkout.js';

export function compiled(name: 'touch' | 'floor'): string {
  const source = join(root, 'bench', `${name}.c`);
  const folder = join(root, 'dist', 'bench', 'bin');
  const binary = join(folder, name);
  if (existsSync(binary) && statSync(binary).mtimeMs > statSync(source).mtimeMs) return binary;
  mkdirSync(folder, { recursive: true });
  execFileSync('cc', ['-O2', '-Wall', '-Wextra', '-Werror', '-pthread', '-o', binary, source], { stdio: 'inherit' });
  return binary;
}
