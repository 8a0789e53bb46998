/** The victim policies by name. */
import { FifoPolicy } from './fifo.js';
import { ReturnsPolicy } from './returns.js';
import { S3FifoPolicy } from './s3fifo.js';
import type { VictimPolicy } from './victim.js';

export const VICTIM_POLICIES = ['returns', 's3fifo', 'fifo'] as const;
export type VictimPolicyName = (typeof VICTIM_POLICIES)[number];
export const DEFAULT_VICTIM_POLICY: VictimPolicyName = 'returns';

const MAKERS: { readonly [name in VictimPolicyName]: () => VictimPolicy } = {
  returns: () => new ReturnsPolicy(),
  s3fifo: () => new S3FifoPolicy(),
  fifo: () => new FifoPolicy(),
};

/** @throws RangeError for an unknown name. */
export function createVictimPolicy(name: string = DEFAULT_VICTIM_POLICY): VictimPolicy {
  if (!isVictimPolicyName(name))
    throw new RangeError(`unknown victim policy ${name}; there are ${VICTIM_POLICIES.join(', ')}`);
  return MAKERS[name]();
}

function isVictimPolicyName(name: string): name is VictimPolicyName {
  return (VICTIM_POLICIES as readonly string[]).includes(name);
}
