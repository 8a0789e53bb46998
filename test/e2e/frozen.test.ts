/** Targets in a control group that is frozen (a paused container) when leapd comes, or when it wants to go. */
import assert from 'node:assert/strict';
import { accessSync, constants, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { describeExit, poll, sleep } from './child.js';
import { assertSame, cannotRun, reference, Scene, settled, START_MS, TINY_PAGES } from './harness.js';
import * as proc from './proc.js';

const timeout = 120_000;

/** A way to freeze a process, or why there is none. */
class Freezer {
  private constructor(
    private readonly directory: string,
    private readonly unified: boolean,
  ) {}

  static of(scene: Scene, version: 1 | 2): Freezer | string {
    const mount = readFileSync('/proc/mounts', 'latin1')
      .split('\n')
      .map((line) => line.split(' '))
      .find(([, , type = '', options = '']) =>
        version === 2 ? type === 'cgroup2' : type === 'cgroup' && options.split(',').includes('freezer'),
      );
    if (mount === undefined) return `no freezer of cgroup v${version} is mounted`;
    const directory = join(mount[1]!, `leap-e2e-${process.pid}`);
    const freezer = new Freezer(directory, version === 2);
    try {
      mkdirSync(directory);
      accessSync(join(directory, version === 2 ? 'cgroup.freeze' : 'freezer.state'), constants.W_OK);
    } catch (error) {
      return `no control group can be made: ${String(error)}`;
    }
    scene.atEnd(() => rmdirSync(directory));
    scene.atEnd(() => freezer.thaw());
    return freezer;
  }

  add(pid: number): void {
    writeFileSync(join(this.directory, 'cgroup.procs'), String(pid));
  }
  freeze(): void {
    writeFileSync(
      join(this.directory, this.unified ? 'cgroup.freeze' : 'freezer.state'),
      this.unified ? '1' : 'FROZEN',
    );
  }
  thaw(): void {
    writeFileSync(
      join(this.directory, this.unified ? 'cgroup.freeze' : 'freezer.state'),
      this.unified ? '0' : 'THAWED',
    );
  }
}

for (const version of [1, 2] as const) {
  test(`a target frozen by cgroup v${version} is left alone`, { skip: cannotRun, timeout }, async (t) => {
    const scene = new Scene(t);
    const freezer = Freezer.of(scene, version);
    if (typeof freezer === 'string') return t.skip(freezer);
    const options = { rounds: 2 };
    const target = scene.target('mix', options);
    const pid = await target.ready();
    const before = proc.view(pid, true);
    freezer.add(pid);
    freezer.freeze();
    const leapd = scene.leapd(pid);
    assert.equal(describeExit(await leapd.end(START_MS)), 'code 7');
    assert.ok(leapd.said(/is frozen/), leapd.tail());
    freezer.thaw();
    assertSame(before, proc.view(pid, true));
    target.send('go');
    const { checksum, rounds } = await target.finish();
    assert.deepEqual([`DONE ${checksum} ${rounds}`], await reference(scene, 'mix', options));
  });

  test(
    `a target frozen by cgroup v${version} is paged out, and left when it is thawed`,
    { skip: cannotRun, timeout },
    async (t) => {
      const scene = new Scene(t);
      const freezer = Freezer.of(scene, version);
      if (typeof freezer === 'string') return t.skip(freezer);
      const options = { pages: 2048, rounds: 2 };
      const target = scene.target('mix', options);
      const pid = await target.ready();
      const before = proc.view(pid, true);
      freezer.add(pid);
      const leapd = await scene.attach(pid, { 'local-memory': '6M' });
      freezer.freeze();
      await leapd.set({ 'local-memory': '512K' });
      await settled(leapd, TINY_PAGES);
      leapd.kill('SIGTERM');
      await poll(
        () => 'all pages back',
        START_MS,
        () => (proc.registered(pid) === 0 ? true : undefined),
      );
      await sleep(1000);
      assert.equal(leapd.exit, undefined, `leapd did not wait${leapd.tail()}`);
      freezer.thaw();
      await leapd.cleanEnd();
      assertSame(before, proc.view(pid, true));
      target.send('go');
      const { checksum, rounds } = await target.finish();
      assert.deepEqual([`DONE ${checksum} ${rounds}`], await reference(scene, 'mix', options));
    },
  );
}
