/**
 * The portal: which donors there are. A file, one address a line, or one line of text:
 *
 *   2                          Infiniswap's form begins with a count
 *   10.0.0.2:9400              IPv4, a host name, or IPv6 in brackets, and a port
 *   [fd00::3]:9400   # so are comments
 *
 *   rdma://2,10.0.0.2:9400,10.0.0.3:9400
 */
export interface PortalAddress {
  /** A numeric address, without brackets, or a name to look up. */
  readonly host: string;
  readonly port: number;
}

/** As the portal has it. */
export interface PortalEntry extends PortalAddress {
  /** Its line, for messages. */
  readonly where: string;
}

/** What is wrong with a portal; one line, which names the line of the file. */
export class PortalError extends Error {}

const SCHEME = 'rdma://';
/** The original's limit on donors. */
const MOST_DONORS = 32;

export const isPortalText = (text: string): boolean => text.startsWith(SCHEME);

/** @param name the file's name, for messages  @throws PortalError */
export function parsePortalFile(text: string, name: string): PortalEntry[] {
  const lines = text
    .split('\n')
    .map((line, i) => ({ text: line.replace(/#.*/, '').trim(), where: `${name}, line ${i + 1}` }));
  const filled = lines.filter((line) => line.text !== '');
  return parse(filled, name);
}

/** rdma://N,ip:port,... @throws PortalError */
export function parsePortalText(text: string): PortalEntry[] {
  const parts = text
    .slice(SCHEME.length)
    .split(',')
    .map((part) => part.trim());
  return parse(
    parts.map((part, i) => ({ text: part, where: `portal, part ${i + 1}` })),
    'the portal',
  );
}

function parse(items: readonly { readonly text: string; readonly where: string }[], name: string): PortalEntry[] {
  const [head] = items;
  if (head === undefined) throw new PortalError(`${name} names no donor`);
  const counted = /^\d+$/.test(head.text);
  const addresses = items.slice(counted ? 1 : 0).map(({ text, where }) => address(text, where));
  if (addresses.length === 0) throw new PortalError(`${name} names no donor`);
  if (counted && Number(head.text) !== addresses.length)
    throw new PortalError(`${head.where}: the count is ${head.text}, but ${addresses.length} donors follow`);
  if (addresses.length > MOST_DONORS)
    throw new PortalError(`${name} names ${addresses.length} donors, more than the limit of ${MOST_DONORS}`);
  const seen = new Set<string>();
  addresses.forEach(({ host, port }) => {
    const key = `${host} ${port}`;
    if (seen.has(key)) throw new PortalError(`${name} names ${host}:${port} twice`);
    seen.add(key);
  });
  return addresses;
}

function address(text: string, where: string): PortalEntry {
  const [, bracketed, plain, digits] = /^(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\s:[\]/]+)):(\d+)$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined)
    throw new PortalError(`${where}: "${text}" is not an address such as 10.0.0.2:9400 or [fd00::2]:9400`);
  const port = Number(digits);
  if (port < 1 || port > 65535) throw new PortalError(`${where}: port ${digits} is not between 1 and 65535`);
  return { host, port, where };
}
