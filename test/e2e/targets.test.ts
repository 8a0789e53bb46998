/**
 * Targets that verify their own memory, each under a leapd that may keep next to nothing local; the result is compared
 * with a run without.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  assertPaged,
  cannotRun,
  evictWays,
  paged,
  settled,
  TINY_PAGES,
  WORK_MS,
  type Options,
  type Run,
} from './harness.js';

const skip = cannotRun;
const timeout = 90_000;

const runs = (name: string, run: Run): void => {
  test(name, { skip, timeout }, async (t) => {
    await paged(t, run);
  });
};

/** Each way to evict, and both ends: with leapd to the last, and without it for the last look. */
const core: readonly (readonly [program: string, options: Options])[] = [
  ['mix', { rounds: 3, pages: 4096 }],
  ['threads', { rounds: 2, pages: 3072 }],
  ['grow', { rounds: 3 }],
  ['unmap', { rounds: 2, pages: 3072 }],
  ['advise', { rounds: 2, pages: 3072 }],
  ['forker', { rounds: 1, pages: 2048 }],
];
for (const evict of evictWays) {
  core.forEach(([program, options], i) => {
    if (program === 'unmap' && evict !== 'move') {
      const why =
        'it maps memory where some is being discarded, and may lose a page of it: a known limit of discard (docs/limits.md)';
      return void test(`${program}, evict ${evict}`, { skip: why }, () => undefined);
    }
    runs(`${program}, evict ${evict}`, { program, options, leapd: { evict }, end: i % 2 === 0 ? 'exit' : 'detach' });
  });
  runs(`threads in thousands, evict ${evict}`, {
    program: 'threads',
    options: { mode: 'churn', rounds: 2, pages: 1536 },
    leapd: { evict, 'local-memory': '128K' },
  });
}

// Attached in the middle of the work, which ends after leapd has gone.
for (const program of ['threads', 'grow', 'unmap', 'advise', 'forker', 'spawner', 'syscalls']) {
  runs(`${program}, attached while at work`, {
    program,
    options: { pages: 2400, seed: 2 },
    attach: 'busy',
    end: 'detach',
  });
}

runs('unmap with MREMAP_DONTUNMAP', { program: 'unmap', options: { mode: 'dontunmap', rounds: 4, seed: 3 } });
runs('advise with mlock and MADV_POPULATE', { program: 'advise', options: { mode: 'lock', rounds: 4 }, end: 'detach' });
runs('forker with areas wiped and kept back', {
  program: 'forker',
  options: { mode: 'wipe', rounds: 2, pages: 512 },
  end: 'detach',
});
runs('forker with areas marked so after the attach', {
  program: 'forker',
  options: { mode: 'wipe-late', rounds: 2, pages: 512 },
  end: 'detach',
});
runs('forker with many children at once', { program: 'forker', options: { mode: 'many', rounds: 3, pages: 512 } });
runs('a child that outlives its parent', { program: 'forker', options: { mode: 'outlive', rounds: 3, pages: 512 } });
runs('a child that outlives its parent, evict discard', {
  program: 'forker',
  options: { mode: 'outlive', rounds: 3, pages: 512 },
  leapd: { evict: 'discard' },
});
runs('spawner', { program: 'spawner', options: { rounds: 3, pages: 512 }, end: 'detach' });
runs('spawner, evict discard', { program: 'spawner', options: { rounds: 2, pages: 512 }, leapd: { evict: 'discard' } });
runs('threads that come and go', { program: 'exiter', options: { rounds: 4 } });
runs('a process whose first thread has left', { program: 'exiter', options: { mode: 'leader', rounds: 3 } });
runs('system calls', { program: 'syscalls', options: { rounds: 2, pages: 700 } });
runs('system calls, evict discard', {
  program: 'syscalls',
  options: { rounds: 2, pages: 700 },
  leapd: { evict: 'discard' },
  end: 'detach',
});
runs('unprivileged', { program: 'unprivileged', options: { rounds: 2 }, end: 'detach' });
runs('unprivileged, evict discard', { program: 'unprivileged', options: { rounds: 2 }, leapd: { evict: 'discard' } });
runs('rights dropped under leapd', { program: 'unprivileged', options: { mode: 'late', rounds: 2 } });
runs('under a seccomp filter', { program: 'seccomp', options: { rounds: 4 }, end: 'detach' });
runs('under a seccomp filter, evict discard', {
  program: 'seccomp',
  options: { rounds: 4 },
  leapd: { evict: 'discard' },
});
for (const prefetch of ['readahead', 'stride', 'next-n'])
  runs(`prefetch ${prefetch}`, { program: 'mix', options: { rounds: 3 }, leapd: { prefetch } });
runs('victims fifo', { program: 'mix', options: { rounds: 3 }, leapd: { victims: 'fifo' } });
runs('no prefetch buffer', { program: 'mix', options: { rounds: 3 }, leapd: { 'prefetch-buffer': 0 } });
runs('the smallest local memory', {
  program: 'threads',
  options: { rounds: 1 },
  leapd: { 'local-memory': '64K', 'prefetch-buffer': 16 },
});

for (const evict of evictWays) {
  test(`huge pages at the attach, evict ${evict}`, { skip, timeout }, async (t) => {
    await paged(t, {
      program: 'thp',
      options: { pages: 1536 },
      leapd: { evict },
      end: 'detach',
      meanwhile: async (target) => {
        const huge = Number((await target.line(/^NOTE huge (\d+) kB$/, 1000))[1]);
        if (huge === 0) t.skip('the kernel gave no huge pages before the attach');
        t.diagnostic(`${huge} kB in huge pages`);
      },
    });
  });
}

test('a process that uses userfaultfd itself: that range is left alone', { skip, timeout }, async (t) => {
  const leapd = await paged(t, { program: 'userfaultfd_user', options: { rounds: 3 } });
  assert.ok(
    leapd.log.some((record) => /userfaultfd|skip/i.test(JSON.stringify(record))),
    `leapd says nothing of the range that it leaves out${leapd.tail()}`,
  );
});

test("limits hold, by leapd's count and the kernel's", { skip, timeout }, async (t) => {
  await paged(t, {
    program: 'mix',
    options: { pages: 4096, rounds: 2 },
    end: 'detach',
    meanwhile: async (target, leapd) => {
      await target.line(/^HOLD$/, WORK_MS);
      assertPaged(await settled(leapd, TINY_PAGES), TINY_PAGES);
    },
  });
});
