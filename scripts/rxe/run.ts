/** npm run rxe [-- COMMAND...]: a shell, the demonstration, or a command in a VM with Soft-RoCE. */
import yargs from 'yargs';
import { buildDemoProgram } from '../demo-program.js';
import { runInVm, VmFailure, VmUnavailable } from './vm.js';

const UNAVAILABLE = 5;
const FAILED = 125;

const parsed = await yargs(process.argv.slice(2))
  .scriptName('npm run rxe --')
  .usage('Usage: $0 [options] [demo | COMMAND...]\n')
  .usage(
    "Boots a virtual machine with Soft-RoCE and this machine's files. Runs a command in it as root; by default a shell.",
  )
  .parserConfiguration({ 'halt-at-non-option': true, 'parse-positional-numbers': false, 'populate--': false })
  .option('timeout', { type: 'number', default: 3600, describe: 'time limit of the command, in seconds' })
  .option('memory', { type: 'number', default: 4096, describe: 'memory of the VM, in MiB' })
  .option('cpus', { type: 'number', default: 2, describe: 'CPUs of the VM' })
  .example('$0', 'a shell')
  .example('$0 demo', 'page a program to two donors over RDMA')
  .example('$0 ibv_devinfo -v', 'one command')
  .epilogue(`Exit status: that of the command; ${UNAVAILABLE} where no VM can run, ${FAILED} when the VM failed.`)
  .epilogue('LEAP_RXE_KERNEL names another kernel package than linux-image-amd64.')
  .version(false)
  .strictOptions()
  .parseAsync();

const words = parsed._.map(String);
const command = words[0] === 'demo' ? ['bash', 'scripts/rxe/demo.sh', ...words.slice(1)] : words;

for (const [signal, status] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const)
  process.once(signal, () => process.exit(status));

if (command.length === 0 && !(process.stdin.isTTY && process.stdout.isTTY)) {
  process.stderr.write('rxe: a shell needs a terminal; name a command: npm run rxe -- COMMAND...\n');
  process.exit(2);
}

// Here, where it takes a tenth of the time: the demonstration and the shell's greeting use it.
if (command.length === 0 || words[0] === 'demo') buildDemoProgram();

const { rows, columns } = process.stdout;
const environment = {
  ...process.env,
  ...(rows === undefined ? {} : { LEAP_ROWS: String(rows), LEAP_COLUMNS: String(columns) }),
};
process.stderr.write('rxe: starting the VM\n');
try {
  const { status, complaints, startSeconds } = await runInVm(
    {
      command,
      directory: process.cwd(),
      environment,
      timeoutMs: parsed.timeout * 1000,
      memoryMiB: parsed.memory,
      cpus: parsed.cpus,
    },
    { out: process.stdout, err: process.stderr },
  );
  if (process.env['LEAP_RXE_TIMES'] !== undefined)
    process.stderr.write(`rxe: the command began ${startSeconds.toFixed(1)} s after QEMU\n`);
  if (complaints.length > 0) process.stderr.write(`rxe: the VM's kernel complained:\n${complaints.join('\n')}\n`);
  process.exitCode = status;
} catch (error) {
  if (!(error instanceof VmFailure || error instanceof VmUnavailable)) throw error;
  if (error instanceof VmFailure) process.stderr.write(`rxe: ${error.message}\n`); // of VmUnavailable build.sh has told
  process.exitCode = error instanceof VmUnavailable ? UNAVAILABLE : FAILED;
}
