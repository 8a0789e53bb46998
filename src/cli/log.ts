/** The log of leapd, on stderr: pretty on a terminal, one JSON object a line otherwise. */
import { pino, type Logger } from 'pino';
import pretty from 'pino-pretty';
import type { LogLevel } from './log-level.js';

export type Log = Logger;

export function openLog(level: LogLevel, pid: number): Log {
  const options = { level, base: { target: pid }, timestamp: pino.stdTimeFunctions.isoTime };
  const stream = process.stderr.isTTY
    ? pretty({
        destination: 2,
        sync: true,
        colorize: process.env['NO_COLOR'] === undefined,
        ignore: 'target',
        translateTime: 'SYS:HH:MM:ss.l',
        singleLine: true,
      })
    : pino.destination({ fd: 2, sync: true });
  // A reader of the log that goes away must not take leapd, and with it the target's memory, along.
  stream.on('error', () => undefined);
  return pino(options, stream);
}
