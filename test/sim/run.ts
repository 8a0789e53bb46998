/** One simulated run: a target, a pager, an engine between them, and everything that can be checked from outside. */
import type { Engine } from '../../src/core/engine.js';
import { Pager } from '../../src/pager/pager.js';
import { Calls } from './calls.js';
import { Donors } from './donors.js';
import { drawConfig, POLICIES, type Config } from './config.js';
import { Program } from './schedule.js';
import { SimEngine } from './sim-engine.js';
import { SimKernel } from './sim-kernel.js';
import { SimStore } from './sim-store.js';
import { Bit, SimSpace, ThreadState, WINDOW } from './space.js';
import { WildPrefetcher } from './wild.js';
import { Random, SimFailure, World } from './world.js';

/** Turns that a thread may wait for its page or its event. Time is not counted: a turn is when the pager can act. */
const PATIENCE = 3000;
/** Turns that the pager may be above its limit with pages that it could evict. */
const OVER_LIMIT_PATIENCE = 3000;
/** After a failed write the pager may leave eviction alone for a while. */
const WRITE_PAUSE_NS = 3e9;
/** Turns between two looks at the pager's invariants; SIM_CHECK=1 finds the very turn. */
const CHECK_EVERY = Number(process.env['SIM_CHECK'] ?? 32);
const DETACH_PATIENCE = 12_000;
const WAITS_NS = [0, 0, 1000, 50_000, 5_000_000];

export interface RunResult {
  readonly seed: number;
  readonly steps: number;
  readonly turns: number;
  readonly traceHash: number;
  readonly coverage: ReadonlyMap<string, number>;
  readonly config: Config;
}

export interface RunOptions {
  /** Puts something between the pager and the engine: a mutant that the simulator must find. */
  readonly wrap?: (engine: Engine, world: World) => Engine;
  readonly change?: (config: Config) => Config;
  /** Takes a rule out of the pager, before it is attached. */
  readonly breakRule?: (pager: Pager) => void;
}

/** @throws SimFailure */
export function runSeed(seed: number, steps: number, options: RunOptions = {}): RunResult {
  const random = new Random(seed);
  const drawn = drawConfig(random);
  const config = options.change?.(drawn) ?? drawn;
  const world = new World(seed, steps, config, random);
  const run = new Run(world, options.wrap);
  options.breakRule?.(run.pager);
  try {
    run.execute();
  } catch (error) {
    if (error instanceof SimFailure) throw error;
    world.fail(`the pager throws: ${error instanceof Error ? error.stack : String(error)}`);
  }
  return {
    seed,
    steps: world.step,
    turns: world.turn,
    traceHash: world.trace.hash >>> 0,
    coverage: world.coverage,
    config,
  };
}

class Run {
  private readonly store: SimStore;
  private readonly kernel: SimKernel;
  private readonly calls: Calls;
  private readonly program: Program;
  private readonly target: SimSpace;
  readonly pager: Pager;
  private readonly donors: Donors;
  private limit: number;
  private overLimitSince = -1;
  /** Spaces that can be evicted from. */
  private spaces = 0;
  private checkedAt = 0;

  constructor(
    private readonly world: World,
    wrap: ((engine: Engine, world: World) => Engine) | undefined,
  ) {
    const { config } = world;
    this.store = new SimStore(world, config.frames);
    this.kernel = new SimKernel(world, this.store);
    this.calls = new Calls(this.kernel);
    this.program = new Program(world, this.kernel, this.calls);
    this.target = new SimSpace(world);
    this.kernel.spaces.push(this.target);
    this.program.populate(this.target);
    const engine = new SimEngine(world, this.kernel, this.store, this.program, this.target);
    this.limit = config.limit;
    this.pager = new Pager(wrap?.(engine, world) ?? engine, {
      localLimit: { pages: config.limit },
      frames: config.frames,
      prefetchBuffer: Math.min(config.prefetchBuffer, config.frames),
      prefetch: config.prefetch,
      history: config.history,
      windowMax: config.windowMax,
      victims: config.victims,
      evict: config.useMove ? 'auto' : 'discard',
      copies: config.copies,
      notify: (level, message) => world.hit(`${level}: ${message}`),
    });
    this.pager.setDiscardRefused(config.weights.pin === 0);
    this.donors = new Donors(world, this.store, this.pager);
  }

  execute(): void {
    const { world, pager, program } = this;
    const { random } = world;
    // The target has lived for a while before anybody attaches.
    for (let i = random.below(1500); i > 0; i--) program.step();
    pager.attach();
    if (random.chance(0.5)) this.changePrefetch();
    while (world.step < world.steps) {
      this.control();
      if (!pager.step(random.pick(WAITS_NS))) world.fail('the pager has stopped while the target lives');
      this.check(CHECK_EVERY);
    }
    this.check(0);
    this.serveAll();
    if (world.config.endsWithExit) this.exit();
    else this.detach();
  }

  /** What the daemon and its operator do between two turns. */
  private control(): void {
    const { world, pager } = this;
    const { random, config } = world;
    this.donors.act();
    if (pager.wantsTick ? random.chance(0.3) : random.chance(0.01)) pager.tick();
    if (pager.refusalsToClear > 0 && random.chance(config.look)) pager.clearRefusals(pager.refusalsToClear);
    if (!random.chance(0.003)) return;
    switch (random.below(5)) {
      case 0:
        this.limit = random.chance(0.5) ? random.between(4, 40) : random.between(4, 400);
        // A much lower one with few frames and a slow store takes its time, and a fault waits as long.
        world.excusedUntil = Math.max(world.excusedUntil, world.turn + PATIENCE);
        this.overLimitSince = -1;
        world.note('limit', this.limit);
        world.hit('control:limit');
        return pager.setLocalLimit(this.limit);
      case 1:
        world.hit('control:prefetch');
        return this.changePrefetch();
      case 2:
        return pager.setHistory(random.between(1, 64));
      case 3:
        return pager.setWindowMax(random.between(1, 64));
      default:
        world.hit('control:buffer');
        return pager.setPrefetchBuffer(random.below(config.frames));
    }
  }

  private changePrefetch(): void {
    const { random } = this.world;
    if (random.chance(0.7)) return this.pager.setPrefetch(random.pick(POLICIES));
    this.world.hit('wild plans');
    this.pager.setPrefetch(new WildPrefetcher(random));
  }

  private check(every: number): void {
    const { world, pager } = this;
    if (world.turn - this.checkedAt < every) return;
    this.checkedAt = world.turn;
    pager.checkInvariants();
    this.program.checkLiveness(PATIENCE);
    const resident = this.kernel.evictable(world.config.weights.pin === 0);
    const pausing = (world.now - this.store.writeFailedAt) * world.config.nsPerStep < WRITE_PAUSE_NS;
    // A child that can be evicted from brings all of its pages at once: from then on there is more to do.
    const spaces = this.kernel.spaces.filter((space) => space.isAlive && space.hasHelper).length;
    if (spaces > this.spaces) this.overLimitSince = -1;
    this.spaces = spaces;
    if (resident <= this.limit || world.config.look === 0 || pausing || world.turn < world.excusedUntil)
      this.overLimitSince = -1;
    else if (this.overLimitSince < 0) this.overLimitSince = world.turn;
    else if (world.turn - this.overLimitSince > OVER_LIMIT_PATIENCE) {
      const { evictionStalled, residentPages, framesFree } = pager.stats();
      world.fail(
        `${resident} evictable pages are resident since turn ${this.overLimitSince}, over the limit of ${this.limit}; ` +
          `the pager counts ${residentPages}, stalled: ${evictionStalled}, free frames: ${framesFree}`,
      );
    }
  }

  /** Whoever waits for a page now gets it, without the detach that would bring it anyway. */
  private serveAll(): void {
    const { program, kernel, pager, world } = this;
    const waiting = kernel.spaces
      .flatMap((space) => space.threads)
      .filter((thread) => thread.state === ThreadState.faulting);
    const since = waiting.map((thread) => thread.since);
    const waits = (): boolean =>
      waiting.some(
        (thread, i) => thread.state === ThreadState.faulting && thread.since === since[i] && thread.space.isAlive,
      );
    for (let turns = 0; waits() && turns < 2 * PATIENCE; turns++) {
      this.donors.act();
      if (!pager.step(0)) world.fail('the pager has stopped while the target lives');
      if (pager.wantsTick ? world.random.chance(0.3) : world.random.chance(0.01)) pager.tick();
      if (pager.refusalsToClear > 0) pager.clearRefusals(pager.refusalsToClear);
      if (turns % CHECK_EVERY === 0) program.checkLiveness(PATIENCE);
    }
  }

  private exit(): void {
    const { world, pager, kernel } = this;
    // At a bad moment, if one comes.
    for (let i = 0; i < 200 && !kernel.spaces.some((space) => space.faults.length > 0); i++) this.program.step();
    for (const space of [...kernel.spaces]) if (space.isAlive) this.calls.exit(space);
    for (let turns = 0; pager.step(world.random.pick(WAITS_NS)); turns++) {
      if (turns > PATIENCE) world.fail('every process has exited, and the pager goes on');
      if (world.random.chance(0.05)) pager.tick();
    }
    if (kernel.spaces.length > 0) world.fail('a space that is gone was not dropped');
    world.hit('end:exit');
  }

  private detach(): void {
    const { world, pager, kernel, store, program } = this;
    const { random } = world;
    if (random.chance(0.5)) {
      store.calm = true;
      kernel.calm = true;
    }
    world.note('detach');
    pager.requestDetach();
    for (let turns = 0; pager.step(random.pick(WAITS_NS)); turns++) {
      if (turns === 1000) {
        // A store that fails for ever, or a program that never rests, is no reason to fail.
        store.calm = true;
        kernel.calm = true;
        program.settled = true;
      }
      if (turns > DETACH_PATIENCE) world.fail('the detach does not end');
      this.donors.act();
      if (pager.wantsTick ? random.chance(0.3) : random.chance(0.01)) pager.tick();
      if (turns % CHECK_EVERY === 0) {
        pager.checkInvariants();
        program.checkLiveness(PATIENCE);
      }
    }
    world.hit('end:detach');
    this.checkDetached();
  }

  private checkDetached(): void {
    const { kernel, program } = this;
    // What is registered still (a mapping that has grown in place and that nobody touched) ends with the descriptor.
    for (const space of kernel.spaces) kernel.close(space);
    // The program goes on by itself.
    for (let i = 0; i < 500; i++) program.step();
    for (const space of kernel.spaces) {
      if (!space.isAlive) continue;
      for (let page = 0; page < WINDOW; page++) {
        if (space.tag[page] === 0) continue;
        if (space.has(page, Bit.poison) && this.store.lost.has(space.oracle.value[page])) continue;
        space.oracle.read(page, space.content[page]);
      }
    }
  }
}
