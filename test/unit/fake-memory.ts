/** A donor's memory without memory: it knows who can reach it, and that nobody may while it is scrubbed or freed. */
import assert from 'node:assert/strict';
import type { FabricMemory } from '../../src/core/fabric.js';

const MiB = 2 ** 20;

export class FakeMemory implements FabricMemory {
  static alive = new Set<FakeMemory>();
  readonly bytes = 4 * MiB;
  readonly huge = false;
  scrubs = 0;
  isFree = false;
  exposed = 0;
  finish: ((error?: Error) => void)[] = [];

  constructor(
    readonly id: number,
    private readonly isManual = false,
  ) {
    FakeMemory.alive.add(this);
  }

  scrub(): Promise<void> {
    assert.ok(!this.isFree && this.exposed === 0, 'scrubbed while somebody can reach it');
    this.scrubs++;
    if (!this.isManual) return Promise.resolve();
    return new Promise((resolve, reject) => this.finish.push((error) => (error ? reject(error) : resolve())));
  }

  free(): void {
    assert.ok(!this.isFree && this.exposed === 0, 'freed while somebody can reach it');
    this.isFree = true;
    FakeMemory.alive.delete(this);
  }
}
