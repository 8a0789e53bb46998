/**
 * The fabric over the addon: native/addon/fabric_addon.cc does the work, src/core/fabric.ts says what its functions
 * are.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ProbeFabric, ServerFabric } from '../core/fabric.js';

export interface FabricOptions {
  /** The longest message; 4096 when left out. */
  readonly messageBytes?: number;
  /** Receive buffers, and messages on their way out, per connection. */
  readonly messages?: number;
  /** One-sided operations in flight, per connection. */
  readonly contexts?: number;
}

interface Addon {
  createFabric(options: FabricOptions & { readonly arenaBytes?: number }): ProbeFabric;
}

let loaded: Addon | undefined;

/** @throws Error when the addon is missing. */
function addon(): Addon {
  const path = join('build', 'Release', 'leap.node');
  let root = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(root, path)) && root !== dirname(root)) root = dirname(root);
  return (loaded ??= createRequire(import.meta.url)(join(root, path)) as Addon);
}

/** @throws an error of the addon, of kind `rdma`, when there is none here. */
export const createFabric = (options: FabricOptions = {}): ServerFabric => addon().createFabric(options);
export const createProbe = (arenaBytes: number, options: FabricOptions = {}): ProbeFabric =>
  addon().createFabric({ ...options, arenaBytes });
