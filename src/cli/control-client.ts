/** leapctl's end of the control socket: one request, its progress, its answer. */
import { connect } from 'node:net';
import { errnoName, ExitCode, Refusal } from './exit-codes.js';
import { lineCutter, parseAnswer, PROTOCOL_VERSION, type CommandName, type Json } from './protocol.js';

export interface Call {
  readonly socket: string;
  readonly command: CommandName;
  readonly arguments?: Readonly<Record<string, string>>;
  /** leapd must say something at least this often. */
  readonly patienceMs?: number;
  readonly onProgress?: (done: number, total: number) => void;
}

/** @throws Refusal: nobody answers there, or leapd refused. */
export function call({
  socket: path,
  command,
  arguments: given = {},
  patienceMs = 10_000,
  onProgress,
}: Call): Promise<Json> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const end = (settle: () => void): void => {
      socket.destroy();
      settle();
    };
    const fail = (problem: string, remedy: string): void =>
      end(() => reject(new Refusal(ExitCode.control, problem, remedy)));
    const cut = lineCutter((line) => {
      const answer = parseAnswer(line);
      if ('progress' in answer) onProgress?.(answer.progress.done, answer.progress.total);
      else if ('result' in answer) end(() => resolve(answer.result));
      else end(() => reject(new Refusal(answer.error.code as ExitCode, answer.error.problem, answer.error.remedy)));
    });
    socket.setTimeout(patienceMs, () =>
      fail(`leapd has not answered on ${path} for ${patienceMs / 1000} s`, 'see its log'),
    );
    socket.once('connect', () =>
      socket.write(`${JSON.stringify({ version: PROTOCOL_VERSION, command, arguments: given })}\n`),
    );
    socket.on('data', (chunk) => {
      try {
        cut(chunk);
      } catch (error) {
        end(() => reject(error));
      }
    });
    socket.once('error', (error) =>
      fail(`no leapd answers on ${path} (${errnoName(error)})`, 'list those that run with: leapctl status'),
    );
    socket.once('end', () =>
      fail(`leapd closed the connection on ${path} without an answer`, 'it has ended, or is ending; see its log'),
    );
  });
}
