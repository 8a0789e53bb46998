/**
 * Log levels of all programs (`--log-level`), least important first. Apart from log.ts so that reading options loads no
 * log.
 */
export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;

export type LogLevel = (typeof logLevels)[number];
