/** Traces in files: as recorded, or compressed with gzip; the name says nothing, the bytes do. */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { constants, gunzipSync, gzipSync } from 'node:zlib';
import { errnoName, ExitCode, Refusal } from '../src/cli/exit-codes.js';
import { decodeTrace, type Trace, TraceEncoder, TraceError } from '../src/trace/format.js';

const GZIP_MAGIC = 0x8b1f;
const LARGEST_BYTES = 2 ** 30;

const isGzip = (bytes: Buffer): boolean => bytes.length >= 2 && bytes.readUInt16LE(0) === GZIP_MAGIC;

/** @throws Refusal: one line that says what is wrong with the file. */
export function readTrace(path: string): Trace {
  const trace = decode(path, read(path));
  if (trace.length === 0) throw refused(path, 'it holds no fault', 'record one with: leapctl record PID --out FILE');
  return trace;
}

function read(path: string): Buffer {
  try {
    if (statSync(path).size > LARGEST_BYTES)
      throw refused(path, 'it is larger than 1 GiB', 'record less with --record-max');
    return readFileSync(path);
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw refused(path, `it cannot be read (${errnoName(error)})`, 'give the path of a trace');
  }
}

function decode(path: string, bytes: Buffer): Trace {
  try {
    // A cut-off file is unpacked as far as it goes.
    return decodeTrace(
      isGzip(bytes)
        ? gunzipSync(bytes, { finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: LARGEST_BYTES })
        : bytes,
    );
  } catch (error) {
    if (!(error instanceof TraceError) && !(error instanceof Error && 'code' in error)) throw error;
    throw refused(
      path,
      error.message,
      'make one with: leapctl record PID --out FILE, or: leap-lab generate PATTERN --out FILE',
    );
  }
}

const refused = (path: string, problem: string, remedy: string): Refusal =>
  new Refusal(ExitCode.usage, `${path}: ${problem}`, remedy);

/** @param faults at most so many, from the beginning */
export function encodeTrace(trace: Trace, faults = trace.length): Uint8Array {
  const encoder = new TraceEncoder(trace.about);
  encoder.regions();
  for (const { space, advice, start, first, count } of trace.regions)
    encoder.region(space, advice, start, first, count);
  for (let i = 0; i < Math.min(faults, trace.length); i++)
    encoder.fault(trace.kind[i], trace.write[i] === 1, trace.time[i], trace.page[i], trace.thread[i]);
  encoder.end(trace.lost);
  return encoder.take();
}

/** @throws Refusal */
export function writeTrace(path: string, trace: Trace, faults = trace.length): void {
  const bytes = encodeTrace(trace, faults);
  try {
    writeFileSync(path, path.endsWith('.gz') ? gzipSync(bytes, { level: 9 }) : bytes);
  } catch (error) {
    throw refused(path, `it cannot be written (${errnoName(error)})`, 'give another path');
  }
}
