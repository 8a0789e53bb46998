/**
 * The Soft-RoCE VM: boots a stock Debian kernel under QEMU on this machine's root, runs one job, returns its exit
 * status. What the job writes stays in the VM's memory.
 */
import { spawn, execFile, type ChildProcess } from 'node:child_process';
import { constants, accessSync, mkdtempSync, readFileSync, rmSync, writeFileSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';

const scripts = fileURLToPath(new URL('../../../scripts/rxe/', import.meta.url));

/** Exit status of build.sh when this machine cannot have a VM. */
const UNAVAILABLE = 3;
/** Emulation reaches the job in 10 s on an idle machine. */
const START_MS = 180_000;
/** From the job's end to that of QEMU. */
const END_MS = 20_000;
const CONSOLE_LINES = 40;

/** What a kernel says when something is wrong with it. */
const complaint =
  /\b(BUG:|Oops\b|WARNING:|general protection fault|Kernel panic|hung_task|blocked for more than|Out of memory:)/;

export interface Job {
  /** Without one: a shell on this terminal. */
  readonly command: readonly string[];
  readonly directory: string;
  readonly environment: NodeJS.ProcessEnv;
  readonly timeoutMs: number;
  readonly memoryMiB: number;
  readonly cpus: number;
}

export interface Output {
  readonly out: Writable;
  readonly err: Writable;
}

export interface Outcome {
  readonly status: number;
  /** Seconds from the start of QEMU to that of the job. */
  readonly startSeconds: number;
  /** What the guest's kernel had to complain of. */
  readonly complaints: readonly string[];
}

/** There can be no VM on this machine; the message says why. */
export class VmUnavailable extends Error {}
/** The VM failed: it died, hung, or took too long. The message has the last lines of its console. */
export class VmFailure extends Error {}

/** Makes kernel and initial file system, or finds them made. @returns their directory. */
function build(): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile('bash', [join(scripts, 'build.sh')], { timeout: 15 * 60_000 }, (error, stdout, stderr) => {
      const said =
        stderr
          .trimEnd()
          .split('\n')
          .at(-1)
          ?.replace(/^rxe: /, '') ?? '';
      if (error === null) resolve(stdout.trim());
      else if (error.code === UNAVAILABLE) reject(new VmUnavailable(said));
      else reject(new VmFailure(`scripts/rxe/build.sh failed, see above: ${error.message.split('\n')[0]}`));
    });
    child.stderr?.on('data', (text: Buffer) => process.stderr.write(text));
  });
}

/**
 * KVM where the processor has it: a /dev/kvm alone may be an emulation that boots no stock kernel. LEAP_RXE_ACCEL=kvm
 * or tcg overrides.
 */
function accelerator(): readonly string[] {
  const tcg = ['-accel', 'tcg,thread=multi,tb-size=512', '-cpu', 'max,la57=off,-erms,-fsrm'];
  const kvm = ['-accel', 'kvm', '-cpu', 'host'];
  const wanted = process.env['LEAP_RXE_ACCEL'];
  if (wanted !== undefined) return wanted === 'kvm' ? kvm : tcg;
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return /^flags.*\b(vmx|svm)\b/m.test(readFileSync('/proc/cpuinfo', 'utf8')) ? kvm : tcg;
  } catch {
    return tcg;
  }
}

/** To start and run faster under emulation, and so that its slowness does not look like a hang. */
const kernelOptions = [
  'console=ttyS0',
  'loglevel=5',
  'panic=-1',
  'mitigations=off',
  'no5lvl',
  'init_on_alloc=0',
  'audit=0',
  'apparmor=0',
  'random.trust_cpu=on',
  'tsc=reliable',
  'rcupdate.rcu_expedited=1',
  'nowatchdog',
  'rcupdate.rcu_cpu_stall_suppress=1',
  'hung_task_panic=0',
].join(' ');

function qemuArguments(made: string, directory: string, { command, memoryMiB, cpus }: Job): string[] {
  // Descriptors 3, 4, 5 of QEMU are sockets that Node made.
  const port = (name: string, fd: number): string[] => [
    ...['-chardev', `socket,id=${name},fd=${fd}`],
    ...['-device', `virtserialport,chardev=${name},name=leap.${name}`],
  ];
  const terminal = ['-chardev', 'stdio,id=terminal,signal=off', '-device', 'virtconsole,chardev=terminal'];
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-nic', 'none'],
    ...accelerator(),
    ...['-smp', String(cpus), '-m', String(memoryMiB)],
    ...['-kernel', join(made, 'vmlinux'), '-initrd', join(made, 'initrd')],
    ...[
      '-append',
      `${kernelOptions} leap.guest=${join(scripts, 'guest.sh')} leap.job=${directory} leap.modules=${join(made, 'modules')}`,
    ],
    ...['-chardev', `file,id=console,path=${join(directory, 'console')}`, '-serial', 'chardev:console'],
    ...[
      '-fsdev',
      'local,id=host,path=/,security_model=none,readonly=on,multidevs=remap',
      '-device',
      'virtio-9p-pci,fsdev=host,mount_tag=host',
    ],
    ...['-device', 'virtio-serial-pci', ...port('status', 5), ...port('out', 3), ...port('err', 4)],
    ...(command.length === 0 ? terminal : []),
  ];
}

/** Runs one job in a VM of its own. @throws VmUnavailable, VmFailure. */
export async function runInVm(job: Job, output: Output): Promise<Outcome> {
  const made = await build();
  const directory = mkdtempSync(join(tmpdir(), 'leap-rxe-'));
  const remove = (): void => rmSync(directory, { recursive: true, force: true });
  process.once('exit', remove); // a signal ends this process without coming back here
  try {
    const zeroEnded = (entries: readonly string[]): string => entries.map((entry) => `${entry}\0`).join('');
    writeFileSync(join(directory, 'argv'), zeroEnded(job.command));
    writeFileSync(
      join(directory, 'environment'),
      zeroEnded(Object.entries(job.environment).map(([name, value]) => `${name}=${value ?? ''}`)),
    );
    writeFileSync(join(directory, 'directory'), job.directory);
    return await boot(job, qemuArguments(made, directory, job), join(directory, 'console'), output);
  } finally {
    process.off('exit', remove);
    remove();
  }
}

async function boot(job: Job, qemu: readonly string[], consoleFile: string, output: Output): Promise<Outcome> {
  const begin = performance.now();
  const terminal = job.command.length === 0 ? 'inherit' : 'ignore';
  // Whatever ends this process, kill -9 included, ends QEMU.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', 'qemu-system-x86_64', ...qemu], {
    stdio: [terminal, terminal, 'pipe', 'pipe', 'pipe', 'pipe'],
  });
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(`QEMU cannot be started: ${error.message}`));
    child.once('close', (code, signal) => resolve(`QEMU ended with ${signal ?? `code ${code}`}`));
  });
  const [, , said, out, err, report] = child.stdio as unknown as [null, null, Readable, Readable, Readable, Readable];
  out.pipe(output.out, { end: false });
  err.pipe(output.err, { end: false });
  let qemuSaid = '';
  said.on('data', (text: Buffer) => (qemuSaid += text.toString()));

  let broken = '';
  let startSeconds: number | undefined;
  let status: number | undefined;
  let late = '';
  let patience = patienceOf(child, START_MS, () => (late = `the VM did not start within ${START_MS / 1000} s`));
  createInterface({ input: report }).on('line', (line) => {
    const [word, ...rest] = line.split(' ');
    clearTimeout(patience);
    if (word === 'started') {
      startSeconds = (performance.now() - begin) / 1000;
      patience = patienceOf(
        child,
        job.timeoutMs,
        () => (late = `the command in the VM took longer than ${job.timeoutMs / 1000} s`),
      );
    } else {
      if (word === 'broken') broken = rest.join(' ');
      if (word === 'status') status = Number(rest[0]);
      patience = patienceOf(child, END_MS, () => undefined);
    }
  });
  const stop = (): void => void child.kill('SIGKILL');
  process.once('exit', stop);
  const how = await ended;
  clearTimeout(patience);
  process.off('exit', stop);

  const text = existsSync(consoleFile) ? readFileSync(consoleFile, 'utf8').replaceAll('\r', '') : '';
  const lines = text.split('\n').filter((line) => line !== '');
  if (status === undefined || startSeconds === undefined) {
    const why = broken !== '' ? `the VM has ${broken}` : late !== '' ? late : `the VM died: ${how}`;
    throw new VmFailure(
      [why, qemuSaid.trim(), 'its console:', ...lines.slice(-CONSOLE_LINES)].filter((line) => line !== '').join('\n'),
    );
  }
  return { status, startSeconds, complaints: complaintsIn(lines) };
}

function patienceOf(child: ChildProcess, ms: number, tell: () => void): NodeJS.Timeout {
  return setTimeout(() => {
    tell();
    child.kill('SIGKILL');
  }, ms);
}

/** Each complaint with some lines of what follows it: the trace. */
function complaintsIn(lines: readonly string[]): string[] {
  const found: string[] = [];
  let until = 0;
  lines.forEach((line, at) => {
    if (complaint.test(line)) until = at + 20;
    if (at < until) found.push(line);
  });
  return found;
}
