/** The swap file as a name: may it be made there, and is there room. The engine makes and fills it. */
import { closeSync, constants, lstatSync, openSync, rmSync, statfsSync, statSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { errnoName, ExitCode, Refusal } from '../src/cli/exit-codes.js';
import { formatBytes, pagesToBytes } from '../src/cli/size.js';

const refuse = (problem: string, remedy: string): never => {
  throw new Refusal(ExitCode.swapFile, problem, remedy);
};

/**
 * Finds out whether the swap file can be made: by making it and taking it away again. What stands there already may be
 * somebody's data, and is never touched.
 * @param pages how much may have to be stored at the present size of the target
 * @param hasDonors it is not all the room there is: too little of it is no reason not to begin
 * @returns what to warn of. @throws Refusal.
 */
export function checkSwapPath(path: string, pages: number, hasDonors = false): string | undefined {
  if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) {
    refuse(
      `the swap file ${path} exists, and this leapd did not create it`,
      'remove it if nobody needs it, or give another --swap-file',
    );
  }
  const directory = dirname(path);
  if (!statSync(directory, { throwIfNoEntry: false })?.isDirectory()) {
    refuse(`the swap file ${path} cannot be created: there is no directory ${directory}`, 'give another --swap-file');
  }
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  try {
    closeSync(openSync(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600));
    unlinkSync(path);
  } catch (error) {
    refuse(
      `the swap file ${path} cannot be created (${errnoName(error)})`,
      'give --swap-file in a directory that can be written',
    );
  }
  const room = statfsSync(directory);
  const free = room.bavail * room.bsize;
  const wanted = pagesToBytes(pages);
  if (free >= wanted) return undefined;
  const problem = `${directory} has room for ${formatBytes(free)}, but ${formatBytes(wanted)} may be evicted`;
  if (!hasDonors) refuse(problem, 'give --swap-file on a larger disk, or a larger --local-memory');
  return `${problem}: pages that the donors do not take may find no room and then stay in memory`;
}

export function removeSwapFile(path: string): void {
  rmSync(path, { force: true });
}
