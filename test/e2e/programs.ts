/** Which of the programs that a test needs are there. */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { cannotRun } from './harness.js';

/** Why a test of these programs cannot run; false when it can. */
export function missing(...programs: string[]): string | false {
  const found = (program: string): boolean =>
    (process.env['PATH'] ?? '').split(':').some((directory) => {
      try {
        accessSync(join(directory, program), constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
  const not = programs.filter((program) => !found(program));
  return cannotRun || (not.length > 0 && `not installed: ${not.join(', ')}`);
}
