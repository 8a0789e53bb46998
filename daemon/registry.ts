/**
 * What stands written down about each process under leapd: /run/leap/PID.json. It is how a second leapd knows of the
 * first, leapctl finds the socket, and a later leapd knows what became of an earlier one.
 *
 *   target    leapd     the record means
 *   alive     alive     active     under leapd
 *   alive     dead      orphaned   leapd was killed: pages are out and nobody serves them; take nothing away
 *   gone      alive     ending     leapd is clearing up
 *   gone      dead      stale      nobody needs anything any more: remove swap file, socket and record
 */
import {
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  renameSync,
} from 'node:fs';
import { join } from 'node:path';
import { holdsUserfaultfd, isSame, readText, type ProcessId } from '../src/host/process-info.js';

const RUN_DIRECTORY = '/run/leap';
export const RECORD_VERSION = 1;

/** How often a living leapd touches its record, so that a later one can say when it was last seen. */
export const SIGN_OF_LIFE_MS = 10_000;

export interface Claim {
  readonly version: number;
  readonly target: ProcessId & { readonly name: string };
  readonly leapd: ProcessId;
  readonly startedAt: string;
  readonly swapFile: string;
  readonly control: string;
  /**
   * False until the target is to be attached to: a leapd that died before has left nothing behind in it, and has made
   * no swap file.
   */
  readonly attached: boolean;
  /**
   * Set, beside `attached`, from just before the attach until it has succeeded: whether the target was touched shows
   * only in the target.
   */
  readonly attaching?: boolean;
  /** Why leapd ended, when it lived to write that down. */
  readonly failure?: string;
}

export type Condition = 'active' | 'orphaned' | 'ending' | 'stale';

/** @param isTouched whether a leapd has left its userfaultfd in the process */
export function judge(
  claim: Claim,
  lives: (id: ProcessId) => boolean = isSame,
  isTouched: (pid: number) => boolean = holdsUserfaultfd,
): Condition {
  const leapd = lives(claim.leapd);
  if (!lives(claim.target)) return leapd ? 'ending' : 'stale';
  if (leapd) return 'active';
  return claim.attached && (!claim.attaching || isTouched(claim.target.pid)) ? 'orphaned' : 'stale';
}

const isId = (value: unknown): value is ProcessId => {
  const id = value as Partial<ProcessId> | null | undefined;
  return Number.isSafeInteger(id?.pid) && Number.isSafeInteger(id?.startTime);
};

/** @returns undefined when the text is no record of this version: half written, or somebody else's. */
export function parseClaim(text: string): Claim | undefined {
  let value: Partial<Claim>;
  try {
    value = JSON.parse(text) as Partial<Claim>;
  } catch {
    return undefined;
  }
  if (value === null || typeof value !== 'object' || value.version !== RECORD_VERSION) return undefined;
  if (
    !isId(value.target) ||
    !isId(value.leapd) ||
    typeof value.swapFile !== 'string' ||
    typeof value.control !== 'string'
  )
    return undefined;
  return value as Claim;
}

/**
 * Nobody else could have written it: it belongs to root or to this user, no other user may write it, and it is no link.
 * leapd runs as root and deletes files that a record names.
 */
function isTrusted(path: string, kind: 'isFile' | 'isDirectory'): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return false;
  return found[kind]() && (found.uid === 0 || found.uid === process.geteuid?.()) && (found.mode & 0o022) === 0;
}

export class Registry {
  constructor(private readonly directory = RUN_DIRECTORY) {}

  pathOf(pid: number): string {
    return join(this.directory, `${pid}.json`);
  }

  read(pid: number): Claim | undefined {
    const path = this.pathOf(pid);
    if (!this.isTrusted() || !isTrusted(path, 'isFile')) return undefined;
    const text = readText(path);
    return text === undefined ? undefined : parseClaim(text);
  }

  lastSeen(pid: number): Date | undefined {
    try {
      return statSync(this.pathOf(pid)).mtime;
    } catch {
      return undefined;
    }
  }

  all(): Claim[] {
    let names: string[];
    try {
      names = readdirSync(this.directory);
    } catch {
      return [];
    }
    return names.flatMap((name) => (/^\d+\.json$/.test(name) ? (this.read(Number.parseInt(name, 10)) ?? []) : []));
  }

  /**
   * Writes the record unless there is one already. The link makes it appear whole, and once. @returns false when there
   * is one.
   */
  claim(claim: Claim): boolean {
    mkdirSync(this.directory, { recursive: true, mode: 0o700 });
    if (!this.isTrusted()) throw new Error(`${this.directory} is a link, or another user may write to it`);
    const draft = this.draft(claim);
    try {
      linkSync(draft, this.pathOf(claim.target.pid));
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
      throw error;
    } finally {
      unlinkSync(draft);
    }
  }

  /** Replaces our own record. */
  update(claim: Claim): void {
    renameSync(this.draft(claim), this.pathOf(claim.target.pid));
  }

  /** The attach has succeeded. Where that cannot be written, `judge` asks the target itself. */
  signOfAttach(claim: Claim): void {
    try {
      this.update(claim);
    } catch {
      // a full or read-only /run: leapd serves on with the record that it has
    }
  }

  /**
   * Touches our record; writes it again where somebody has removed it. Where that fails too, the next time may do
   * better.
   */
  signOfLife(claim: Claim): void {
    const now = new Date();
    try {
      utimesSync(this.pathOf(claim.target.pid), now, now);
    } catch {
      try {
        this.claim(claim);
      } catch {
        // a full or read-only /run: leapd serves on without a record
      }
    }
  }

  release(pid: number): void {
    rmSync(this.pathOf(pid), { force: true });
  }

  /**
   * Clears up after every leapd that was killed and whose target is gone too. One that had not come to attach had made
   * no file yet, and what has the swap file's name may be somebody's data; a socket that it may have left is cleared
   * away by whoever needs its name. @returns what was cleared.
   */
  sweep(): Claim[] {
    const stale = this.all().filter((claim) => judge(claim) === 'stale');
    for (const claim of stale) {
      if (claim.attached) {
        rmSync(claim.swapFile, { force: true });
        rmSync(claim.control, { force: true });
      }
      this.release(claim.target.pid);
    }
    return stale;
  }

  private isTrusted(): boolean {
    try {
      return isTrusted(this.directory, 'isDirectory');
    } catch {
      return false; // not ours to search
    }
  }

  private draft(claim: Claim): string {
    const path = join(this.directory, `${claim.target.pid}.json.${claim.leapd.pid}`);
    writeFileSync(path, `${JSON.stringify(claim, null, 2)}\n`, { mode: 0o600 });
    return path;
  }
}
