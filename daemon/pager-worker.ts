/**
 * The pager's thread: attaches, and then runs the synchronous loop until the pager has ended. Nothing in it waits for
 * the main thread; between turns it looks at one shared word, and reads its mail when that is set.
 */
import { rmSync } from 'node:fs';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { framesFor } from '../src/core/pager-options.js';
import { Pager } from '../src/pager/pager.js';
import { Recorder } from '../src/trace/ring.js';
import type { Calibration } from '../src/policy/placement.js';
import { calibrate, isNativeError, NativeEngine, probe } from '../src/host/native-engine.js';
import { MAIL, PARTED, type FromPager, type PagerChanges, type ToPager, type WorkerData } from './pager-messages.js';
import type { RemoteSettings } from './remote-settings.js';
import { authenticator } from '../src/host/authenticator.js';
import { Donors } from '../src/donors/donors.js';
import { Placer } from './placer.js';

/** How long an idle turn waits; whatever matters ends the wait. */
const TURN_NS = 250e6;
/** How often the pager looks at the mappings. */
const TICK_NS = 250e6;
const NS_PER_MS = 1e6;
/** Pages that could not be moved are asked about no more often than this. */
const ASK_NS = 20e6;

if (parentPort === null) throw new Error('the pager runs in a worker thread');
const port = parentPort;
const { settings, flags } = workerData as WorkerData;

const send = (message: FromPager): void => port.postMessage(message);

function handle(running: Running, message: ToPager): void {
  const { pager, donors } = running;
  switch (message.kind) {
    case 'stats':
      return send({
        kind: 'stats',
        id: message.id,
        stats: { ...pager.stats(), rdma: donors?.on ? 'on' : 'off', donors: donors?.stats() ?? [] },
      });
    case 'change':
      try {
        change(running, message.changes);
        return send({ kind: 'changed', id: message.id });
      } catch (error) {
        return send({ kind: 'changed', id: message.id, error: error instanceof Error ? error.message : String(error) });
      }
    case 'detach':
      return pager.requestDetach();
  }
}

function change({ engine, pager, donors }: Running, changes: PagerChanges): void {
  if (changes.rdma !== undefined && donors === undefined) throw new Error('rdma: leapd was started without --portal');
  if (changes.rdma === true) openFabric(engine);
  if (changes.rdma !== undefined) donors?.switch(changes.rdma);
  if (changes.localPages !== undefined) pager.setLocalLimit(changes.localPages);
  if (changes.prefetch !== undefined) pager.setPrefetch(changes.prefetch);
  if (changes.history !== undefined) pager.setHistory(changes.history);
  if (changes.windowMax !== undefined) pager.setWindowMax(changes.windowMax);
  if (changes.prefetchBuffer !== undefined) pager.setPrefetchBuffer(changes.prefetchBuffer);
  if (changes.record !== undefined)
    pager.setRecorder(changes.record === null ? undefined : new Recorder(changes.record));
  if (changes.evicting !== undefined) pager.setEvicting(changes.evicting);
  if (changes.clearRefusals !== undefined) pager.clearRefusals(changes.clearRefusals);
}

/** With --rdma off the device is looked for now. */
function openFabric(engine: NativeEngine): void {
  try {
    engine.openFabric();
  } catch (error) {
    if (!isNativeError(error)) throw error;
    throw new Error(`rdma: ${error.message}`);
  }
}

/** Clears the flag before it reads, so that what comes meanwhile sets it again. */
function readMail(running: Running): void {
  Atomics.store(flags, MAIL, 0);
  for (let received = receiveMessageOnPort(port); received; received = receiveMessageOnPort(port))
    handle(running, received.message as ToPager);
}

/** What the loop drives. */
interface Running {
  readonly engine: NativeEngine;
  readonly pager: Pager;
  readonly donors: Donors | undefined;
}

function loop(running: Running, placer: Placer): void {
  const { engine, pager, donors } = running;
  let nextTick = 0;
  let nextAsk = 0;
  while (pager.step(TURN_NS)) {
    if (Atomics.load(flags, MAIL) === 1) readMail(running);
    const now = engine.clock[0] ?? 0;
    if (pager.fabricDue && donors !== undefined) {
      pager.fabricDue = false;
      donors.events(engine.takeEvents(), now / NS_PER_MS);
    }
    placer.turn(now, pager.faultCount, pager.lastThread);
    if (pager.refusalsToClear > 0 && now >= nextAsk) {
      nextAsk = now + ASK_NS;
      send({ kind: 'pages-refused', refusals: pager.refusalsToClear, pids: engine.pids() });
    }
    if (now < nextTick && !pager.wantsTick) continue;
    nextTick = now + TICK_NS;
    pager.tick();
    donors?.tick(now / NS_PER_MS);
  }
}

/** @returns undefined when the target could not be attached to; it is as it was. */
function attach(): Running | undefined {
  const frames = framesFor(settings.prefetchBuffer, settings.localLimit);
  const { pid, swapFile, evict, remote } = settings;
  const begin = performance.now();
  let engine: NativeEngine;
  try {
    engine = NativeEngine.attach({
      pid,
      frames,
      swapFile,
      allowMove: evict === 'auto' || evict === 'move',
      allowVector: evict === 'discard',
      rdma: remote?.on ?? false,
    });
  } catch (error) {
    if (!isNativeError(error)) throw error; // a bug, not a refusal
    refused(error.kind, error.message);
    return undefined;
  }
  send({ kind: 'wakeable', wakeFd: engine.wakeFd });
  try {
    const pager = new Pager(engine, {
      ...settings,
      evict: evict === 'discard-single' ? 'discard' : evict,
      frames,
      notify: (level, message, facts) => send({ kind: 'log', level, message, facts }),
    });
    pager.setDiscardRefused(!settings.allowPinned);
    pager.attach();
    const attachMs = Math.round((performance.now() - begin) * 10) / 10;
    send({ kind: 'attached', facts: { evict: engine.canMove ? 'move' : 'discard', attachMs } });
    return { engine, pager, donors: remote && meet(engine, pager, remote) };
  } catch (error) {
    leave(engine); // nothing is out yet: closing the descriptors undoes the registration too
    rmSync(swapFile, { force: true });
    throw error;
  }
}

function meet(engine: NativeEngine, pager: Pager, remote: RemoteSettings): Donors {
  const { donors: addresses, on, ...options } = remote;
  const { activity, threshold, ahead, token, chunkBytes, legacy } = options;
  const donors = new Donors(
    addresses,
    { activity, threshold, ahead, token, authenticator, chunkBytes, legacy },
    {
      fabric: engine,
      chunks: pager.chunks,
      replicas: pager.replicas,
      usedSlots: () => pager.usedSlots,
      traffic: (connection) => engine.traffic(connection),
      setChunk: (slots) => engine.setChunk(slots),
      say: (level, message, facts) => send({ kind: 'log', level, message, facts }),
      random: Math.random,
    },
  );
  donors.on = on;
  return donors;
}

/** Where userfaultfd is refused to us nothing is measured; the target may still grant it. */
function measure(): Calibration | undefined {
  try {
    return calibrate();
  } catch (error) {
    if (isNativeError(error)) return undefined;
    throw error;
  }
}

const refused = (reason: string, message: string): void => send({ kind: 'refused', reason, message });

/** Whether the addon is there and this kernel can do what was asked for; says why not. */
function isFit(): boolean {
  let features: readonly string[];
  try {
    features = probe().features;
  } catch (error) {
    if (isNativeError(error)) return true; // it is loaded, and has its say at the attach
    refused('addon', error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error));
    return false;
  }
  if (settings.evict !== 'move' || features.includes('move')) return true;
  refused('kernel-too-old', 'this kernel has no UFFDIO_MOVE, which --evict move asks for');
  return false;
}

const LEAVE_TRIES = 25;
const LEAVE_PAUSE_MS = 200;

/**
 * All pages are back and no range is registered. What is left is to stop a thread for a moment, and to close what we
 * opened in the target.
 */
function leave(engine: NativeEngine): void {
  const never = new Int32Array(new SharedArrayBuffer(4));
  for (let attempt = 1, frozen = false; ; attempt++) {
    try {
      return engine.detach();
    } catch (error) {
      if (!isNativeError(error)) throw error;
      if (error.kind === 'frozen') {
        if (!frozen)
          send({
            kind: 'log',
            level: 'warn',
            message: `${error.message}; it has all its memory back, and leapd detaches when it is thawed`,
          });
        frozen = true;
        attempt = 0;
      }
      if (attempt === LEAVE_TRIES) {
        send({
          kind: 'log',
          level: 'warn',
          message: `${error.message}; it has all its memory back, and one descriptor of leapd stays open in it`,
        });
        return engine.abandon();
      }
    }
    Atomics.wait(never, 0, 0, LEAVE_PAUSE_MS);
  }
}

function main(): void {
  if (!isFit()) return;
  const calibration = measure(); // before the attach: faults would wait for it
  const attached = attach();
  if (attached === undefined) return;
  const { engine, pager, donors } = attached;
  loop(attached, new Placer(engine, calibration));
  donors?.close();
  const stats = pager.stats();
  const gone = stats.spaces === 0;
  if (gone || pager.strandedPages > 0)
    engine.abandon(); // the target keeps its descriptor: without one a lost page would read as zeros
  else leave(engine);
  send({ kind: 'ended', ending: gone ? 'target-gone' : 'detached', stats });
}

const PART_MS = 2000;

try {
  main();
} finally {
  // The engine's descriptors are closed with this thread: the main thread must have stopped writing to the one it wakes
  // us with.
  send({ kind: 'unwakeable' });
  Atomics.wait(flags, PARTED, 0, PART_MS);
}
