/**
 * The programs whose page faults record-traces.ts records: how each is started, and set to work.
 *
 * A program makes its data, prints READY and waits for a line; then leapd attaches, and the program works. A
 * program that cannot wait in between (a compiler, an encoder) is started by a shell that waits for the line and
 * then becomes the program; leapd attaches as soon as it has grown.
 */
import { spawnSync } from 'node:child_process';
import { chownSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LineChild } from '../src/host/line-child.js';
import { root } from '../src/host/checkout.js';
import type { UndoStack } from '../src/host/undo-stack.js';
import { randomFrom } from './random.js';
import { loadCache, startCache } from './traced-cache.js';

const READY_MS = 120_000;
const WORK_MS = 60_000;
const MIB = 2 ** 20;

export interface Program {
  /** Command that has to be there, and Debian's package of it. */
  readonly needs: string;
  readonly package: string;
  /** Starts it and waits until its data are there. @param dir a folder for its files, removed afterwards */
  readonly start: (undo: UndoStack, dir: string) => Promise<LineChild>;
  /** Sets it to work and waits until that is done. @throws Error after WORK_MS */
  readonly work: (program: LineChild, dir: string, undo: UndoStack) => Promise<unknown>;
  /** Local memory of a program that grows while it works; of the others a quarter is local. */
  readonly localBytes?: number;
  /** It becomes another program at the line "go": leapd attaches after that. */
  readonly becomes?: boolean;
}

const source = (name: string): string => join(root, 'lab', 'traced', name);
const statements = (name: string): string => readFileSync(source(name), 'utf8');

const ready = async (program: LineChild): Promise<LineChild> => {
  await program.line((line) => line.includes('READY'), READY_MS);
  return program;
};

const send =
  (text: string): Program['work'] =>
  (program) => {
    program.send(text);
    return program.line((line) => line.includes('DONE'), WORK_MS);
  };

/** It prints READY, waits for a line, and prints DONE. */
const scripted = (needs: string, packageName: string, script: string): Program => ({
  needs,
  package: packageName,
  start: (undo) => ready(new LineChild(undo, script, needs, [source(script)])),
  work: send('go'),
});

/** A shell that becomes `command` when it is told to go. @param prepare makes the files, and returns the command */
const becoming = (needs: string, packageName: string, localMib: number, prepare: (dir: string) => string): Program => ({
  needs,
  package: packageName,
  localBytes: localMib * MIB,
  becomes: true,
  start: (undo, dir) => ready(new LineChild(undo, needs, 'sh', ['-c', `echo READY; read -r go; exec ${prepare(dir)}`])),
  work: (program) => program.exit(WORK_MS),
});

function run(
  command: string,
  args: readonly string[],
  options: { input?: string; cwd?: string; env?: NodeJS.ProcessEnv } = {},
): string {
  const { status, stdout, stderr } = spawnSync(command, args, {
    timeout: READY_MS,
    encoding: 'utf8',
    maxBuffer: 256 * MIB,
    ...options,
  });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}: ${stderr}`);
  return stdout.trim();
}

/** Text that compresses about as well as prose. */
function prose(bytes: number): string {
  const random = randomFrom(1);
  const parts: string[] = [];
  for (let length = 0; length < bytes; length += parts[parts.length - 1].length + 1) {
    const word = `word${Math.floor(40_000 * random() ** 3)}`;
    parts.push(random() < 0.1 ? `${word}.\n` : word);
  }
  return parts.join(' ');
}

/** A history for git: files that change a little from one commit to the next. */
function history(commits: number, files: number): string {
  const random = randomFrom(1);
  const contents = Array.from({ length: files }, (_, file) =>
    Array.from({ length: 60 }, (_line, line) => `file ${file}, line ${line}: ${random()}`),
  );
  const parts: string[] = [];
  for (let commit = 0; commit < commits; commit++) {
    parts.push(`commit refs/heads/main\ncommitter traced <traced> ${commit} +0000\ndata 0\n`);
    for (let change = 0; change < 12; change++) {
      const file = Math.floor(random() * files);
      contents[file][Math.floor(random() * 60)] = `changed in ${commit}: ${random()}`;
      const text = contents[file].join('\n');
      parts.push(`M 100644 inline dir${file % 17}/file${file}\ndata ${text.length}\n${text}\n`);
    }
  }
  return parts.join('');
}

const gitDirectory = (dir: string): string => join(dir, 'repository');

function makeRepository(dir: string): string {
  run('git', ['init', '-q', '--bare', gitDirectory(dir)]);
  run('git', ['fast-import', '--quiet'], { cwd: gitDirectory(dir), input: history(3_000, 400) });
  const options = '--all --revs --no-reuse-delta --threads=2 --window=250 -q --stdout';
  return `git -C ${gitDirectory(dir)} pack-objects ${options} </dev/null >/dev/null`;
}

function compilerCommand(): string {
  const options = '-quiet -imultiarch x86_64-linux-gnu -D_GNU_SOURCE -O2 -std=gnu++17 -o /dev/null';
  return `${run('g++', ['-print-prog-name=cc1plus'])} ${options} ${source('templates.cc')}`;
}

/** PostgreSQL's backend alone, which reads statements from its input, and refuses to run as root. */
function startBackend(undo: UndoStack, dir: string): Promise<LineChild> {
  const bin = run('sh', ['-c', 'ls -d /usr/lib/postgresql/*/bin | tail -n 1']);
  const user = ['--reuid=postgres', '--regid=postgres', '--clear-groups'];
  const data = join(dir, 'data');
  const [uid, gid] = ['-u', '-g'].map((flag) => Number(run('id', [flag, 'postgres'])));
  chownSync(dir, uid, gid);
  run('setpriv', [...user, join(bin, 'initdb'), '-D', data, '-A', 'trust', '--no-sync'], { cwd: dir });
  const backend = new LineChild(undo, 'postgres', 'setpriv', [
    ...user,
    join(bin, 'postgres'),
    '--single',
    '-j',
    '-D',
    data,
    '-c',
    'fsync=off',
    'postgres',
  ]);
  backend.send(statementsOfBackend('plan.sql'));
  return ready(backend);
}

/** With -j a statement ends at a semicolon and an empty line. */
const statementsOfBackend = (name: string): string => statements(name).replaceAll(';\n', ';\n\n');

/** sqlite3 with its tables in memory. @param tables, queries files of statements; they print READY and DONE */
const database = (tables: string, queries: string): Program => ({
  needs: 'sqlite3',
  package: 'sqlite3',
  start: (undo) => {
    const shell = new LineChild(undo, 'sqlite3', 'sqlite3', [':memory:']);
    shell.send(statements(tables));
    return ready(shell);
  },
  work: send(statements(queries)),
});

const benchmarkArgs = (dir: string, args: readonly string[]): string[] => ['-s', join(dir, 'redis'), '-q', ...args];

export const PROGRAMS: Readonly<Record<string, Program>> = {
  cc1plus: becoming('g++', 'g++', 24, compilerCommand),
  ffmpeg: becoming(
    'ffmpeg',
    'ffmpeg',
    16,
    () => 'ffmpeg -v error -nostdin -f lavfi -i testsrc2=size=640x360:rate=25 -t 10 -c:v libx264 -threads 2 -f null -',
  ),
  git: becoming('git', 'git', 8, makeRepository),
  go: {
    needs: 'go',
    package: 'golang-go',
    start: (undo, dir) => {
      const program = join(dir, 'heap');
      run('go', ['build', '-o', program, source('heap.go')], {
        env: { ...process.env, GOCACHE: join(dir, 'go'), GO111MODULE: 'off' },
      });
      return ready(new LineChild(undo, 'heap.go', program, []));
    },
    work: send('go'),
  },
  jvm: {
    needs: 'javac',
    package: 'openjdk-17-jdk-headless',
    start: (undo, dir) => {
      run('javac', ['-d', dir, source('Heap.java')]);
      return ready(
        new LineChild(undo, 'java', 'java', [
          '-Xms96m',
          '-Xmx96m',
          '-XX:+UseG1GC',
          '-XX:ParallelGCThreads=2',
          '-cp',
          dir,
          'Heap',
        ]),
      );
    },
    work: send('go'),
  },
  json: scripted(process.execPath, 'nodejs', 'json.mjs'),
  matrix: scripted('/usr/bin/python3', 'python3-numpy', 'matrix.py'),
  memcached: {
    needs: 'memcached',
    package: 'memcached',
    start: startCache,
    work: (_, dir) => loadCache(dir),
  },
  pagerank: scripted('/usr/bin/python3', 'python3-numpy', 'pagerank.py'),
  pandas: scripted('/usr/bin/python3', 'python3-pandas', 'tables.py'),
  perl: scripted('/usr/bin/perl', 'perl', 'words.pl'),
  postgres: {
    needs: '/usr/lib/postgresql',
    package: 'postgresql',
    localBytes: 8 * MIB,
    start: startBackend,
    work: send(statementsOfBackend('plan-work.sql')),
  },
  ruby: scripted('ruby', 'ruby', 'objects.rb'),
  redis: {
    needs: 'redis-server',
    package: 'redis-server',
    start: async (undo, dir) => {
      const options = ['--port', '0', '--unixsocket', join(dir, 'redis'), '--save', '', '--appendonly', 'no'];
      const server = new LineChild(undo, 'redis-server', 'redis-server', options);
      await server.line((line) => /ready to accept/i.test(line), READY_MS);
      run('redis-benchmark', benchmarkArgs(dir, ['-t', 'set', '-n', '60000', '-r', '60000', '-d', '1000', '-P', '16']));
      return server;
    },
    work: (_, dir, undo) => {
      const args = benchmarkArgs(dir, ['-t', 'get,set,lpush,lrange_100', '-n', '15000', '-r', '60000', '-d', '1000']);
      return new LineChild(undo, 'redis-benchmark', 'redis-benchmark', args).exit(WORK_MS);
    },
  },
  sort: becoming('sort', 'coreutils', 24, (dir) => {
    const numbers = Array.from({ length: 5_000_000 }, (_, i) => `${Math.imul(i, 2654435761) >>> 0} ${i}`);
    writeFileSync(join(dir, 'numbers'), numbers.join('\n'));
    return `sort -S 700M --parallel=2 -o /dev/null ${join(dir, 'numbers')}`;
  }),
  speedtest: database('speed.sql', 'speed-work.sql'),
  sqlite: database('tables.sql', 'tables-work.sql'),
  xz: becoming('xz', 'xz-utils', 12, (dir) => {
    writeFileSync(join(dir, 'text'), prose(12 * MIB));
    return `xz -4 -T1 -c ${join(dir, 'text')} >/dev/null`;
  }),
};
