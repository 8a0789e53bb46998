/**
 * A Redis server as a test needs it: started in a directory of its own, loaded with the same data each time, asked for
 * its digest, saved.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Child, poll, sleep } from './child.js';
import { END_MS, START_MS, WORK_MS, type Scene } from './harness.js';
import { descriptors } from './proc.js';

export class Redis extends Child {
  readonly socket: string;
  constructor(readonly directory: string) {
    mkdirSync(directory, { recursive: true });
    const socket = join(directory, 'redis.sock');
    const settings = {
      port: '0',
      unixsocket: socket,
      dir: directory,
      save: '',
      'enable-debug-command': 'local',
      hz: '50',
    };
    super(
      'redis-server',
      'redis-server',
      Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]),
    );
    this.socket = socket;
  }

  cli(...args: string[]): string {
    return execFileSync('redis-cli', ['-s', this.socket, ...args], { encoding: 'utf8', timeout: WORK_MS * 2 }).trim();
  }

  async ready(): Promise<void> {
    await this.line(/ready to accept connections/i, START_MS);
    await poll('redis to be loaded', START_MS, () => (this.cli('ping') === 'PONG' ? true : undefined));
  }

  digest(): string {
    const digest = this.cli('debug', 'digest');
    assert.match(digest, /^[0-9a-f]{40}$/);
    return digest;
  }

  /** Until no client is connected: each holds a descriptor. */
  async alone(): Promise<void> {
    const sockets = (): number => descriptors(this.pid).filter((line) => line.includes('socket:')).length;
    await poll('the clients to be gone', END_MS, () =>
      /connected_clients:1\b/.test(this.cli('info', 'clients')) ? true : undefined,
    );
    let last = sockets();
    await poll('the last client to be gone', END_MS, async () => {
      const before = last;
      await sleep(50);
      last = sockets();
      return last === before ? true : undefined;
    });
  }

  /**
   * A fixed mix of reads and writes from one connection. The keys it draws follow from nothing random but their number:
   * each is written alike.
   */
  benchmark(): void {
    const common = ['-s', this.socket, '-q', '-c', '4'];
    execFileSync('redis-benchmark', [...common, '-n', '1500', '-t', 'get,set,incr,lpush,lrange_100,mset'], {
      stdio: 'ignore',
      timeout: WORK_MS * 2,
    });
    execFileSync('redis-benchmark', [...common, '-n', '3000', '-r', '50000', 'get', 'string:__rand_int__'], {
      stdio: 'ignore',
      timeout: WORK_MS * 2,
    });
    execFileSync('redis-benchmark', [...common, '-n', '1000', '-r', '4000', 'hgetall', 'hash:__rand_int__'], {
      stdio: 'ignore',
      timeout: WORK_MS * 2,
    });
  }

  /** Forks, and waits for the child's success. */
  async bgsave(meanwhile: () => void): Promise<string> {
    const before = this.cli('lastsave');
    if (Math.floor(Date.now() / 1000) <= Number(before)) await sleep(1100);
    this.cli('bgsave');
    meanwhile();
    await poll('BGSAVE to end', END_MS * 2, () =>
      /rdb_bgsave_in_progress:0/.test(this.cli('info', 'persistence')) ? true : undefined,
    );
    assert.match(this.cli('info', 'persistence'), /rdb_last_bgsave_status:ok/);
    return join(this.directory, 'dump.rdb');
  }
}

/** About 60 MB in all types, or a share of it, the same each time, as redis-cli --pipe reads it. */
export function dataSet(share: number): Buffer {
  let state = 99;
  const random = (limit: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
  const word = (length: number): string => {
    let text = '';
    while (text.length < length) text += random(2 ** 31).toString(36);
    return text.slice(0, length);
  };
  const commands: string[] = [];
  const command = (...args: (string | number)[]): void => {
    commands.push(`*${args.length}\r\n${args.map((arg) => `$${String(arg).length}\r\n${arg}\r\n`).join('')}`);
  };
  // as redis-benchmark writes __rand_int__
  const key = (kind: string, i: number): string => `${kind}:${String(i).padStart(12, '0')}`;
  for (let i = 0; i < 55_000 * share; i++) command('SET', key('string', i), word(100 + random(1200)));
  for (let i = 0; i < 4_000 * share; i++)
    command(
      'HSET',
      key('hash', i),
      ...Array.from({ length: 12 }, (_, f) => [`field${f}`, word(20 + random(120))]).flat(),
    );
  for (let i = 0; i < 2_000 * share; i++)
    command('RPUSH', key('list', i), ...Array.from({ length: 30 }, () => word(random(80))));
  for (let i = 0; i < 2_000 * share; i++)
    command('ZADD', key('zset', i), ...Array.from({ length: 20 }, () => [random(1e6), word(24)]).flat());
  for (let i = 0; i < 2_000 * share; i++) command('SADD', key('set', i), ...Array.from({ length: 20 }, () => word(30)));
  return Buffer.from(commands.join(''));
}

export async function loaded(scene: Scene, name: string, data: Buffer): Promise<Redis> {
  const redis = scene.add(new Redis(join(scene.directory, name)));
  await redis.ready();
  const pipe = scene.add(new Child('redis-cli', 'redis-cli', ['-s', redis.socket, '--pipe']));
  pipe.feed(data);
  assert.equal((await pipe.end(END_MS)).code, 0, pipe.tail());
  assert.ok(
    pipe.lines.some((line) => /errors: 0/.test(line)),
    pipe.tail(),
  );
  return redis;
}

/** The digest of a fresh server that has loaded a saved file. */
export async function digestOfFile(scene: Scene, file: string, name: string): Promise<string> {
  const directory = join(scene.directory, name);
  mkdirSync(directory);
  execFileSync('cp', [file, join(directory, 'dump.rdb')]);
  const redis = scene.add(new Redis(directory));
  await redis.ready();
  const digest = redis.digest();
  redis.kill('SIGKILL');
  return digest;
}
