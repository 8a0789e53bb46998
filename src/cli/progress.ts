/** Progress of a long job: a bar on a terminal, a line a second otherwise. */
import { SingleBar } from 'cli-progress';

export interface Progress {
  update(done: number, total: number): void;
  stop(): void;
}

const LINE_MS = 1000;

export function openProgress(
  label: string,
  say: (text: string) => void,
  stream: NodeJS.WriteStream = process.stderr,
): Progress {
  return stream.isTTY ? bar(label, stream) : lines(label, say);
}

function bar(label: string, stream: NodeJS.WriteStream): Progress {
  const view = new SingleBar({
    stream,
    format: `${label} [{bar}] {percentage}%  {value} of {total} pages`,
    barsize: 30,
    hideCursor: true,
  });
  let started = false;
  return {
    update(done, total) {
      if (!started) view.start(total, done);
      else view.update(done);
      started = true;
      view.setTotal(total);
    },
    stop() {
      if (started) view.stop();
    },
  };
}

function lines(label: string, say: (text: string) => void): Progress {
  let last = 0;
  return {
    update(done, total) {
      const now = Date.now();
      if (now - last < LINE_MS) return;
      last = now;
      say(`${label}: ${done} of ${total} pages`);
    },
    stop() {},
  };
}
