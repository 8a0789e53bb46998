/** Why a peer is refused, as it stands in a Refusal and in REFUSED. Numbers of the protocol: never reuse one. */
export const RefusalCode = {
  malformed: 1,
  wrongVersion: 2,
  notAllowed: 3,
  full: 4,
  tokenRequired: 5,
  tokenWrong: 6,
  wrongChunkSize: 7,
} as const;

export type RefusalCode = (typeof RefusalCode)[keyof typeof RefusalCode];

/** What came from a peer is not what the protocol says; one line. */
export class WireError extends Error {
  constructor(
    message: string,
    /** What to answer. */
    readonly code: RefusalCode = RefusalCode.malformed,
  ) {
    super(message);
    this.name = 'WireError';
  }
}
