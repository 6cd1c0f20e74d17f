import { readFile } from 'node:fs/promises';
import { isIPv4 } from 'node:net';

const established = '01';

/**
 * The peers that processes of this machine hold TCP connections to, as `address:port`: what Linux tells everybody
 * (proc(5), /proc/net/tcp). Undefined where the system does not tell. Processes in other network namespaces, that is
 * other containers, are not seen.
 */
export async function establishedPeers(folder = '/proc/net'): Promise<Set<string> | undefined> {
  try {
    const tables = await Promise.all([
      readFile(`${folder}/tcp`, 'utf8'),
      readFile(`${folder}/tcp6`, 'utf8').catch(() => ''),
    ]);
    return new Set(tables.flatMap(readTable));
  } catch {
    return undefined;
  }
}

function readTable(table: string): string[] {
  return table
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .flatMap(([, , remote = '', state]) => (state === established ? [readPeer(remote)] : []));
}

/** `0100007F:22B3`: the address in 32-bit words of this machine's byte order, the port in the network's. */
function readPeer(text: string): string {
  const [address = '', port = ''] = text.split(':');
  const bytes = (address.match(/.{8}/g) ?? []).flatMap((word) => (word.match(/../g) ?? []).reverse());
  const numbers = bytes.map((byte) => Number.parseInt(byte, 16));
  return `${addressOf(numbers)}:${Number.parseInt(port, 16)}`;
}

function addressOf(bytes: number[]): string {
  if (bytes.length === 4) return bytes.join('.');
  const isMapped = bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 255 && bytes[11] === 255;
  return isMapped ? bytes.slice(12).join('.') : canonical(hextets(bytes).join(':'));
}

function hextets(bytes: number[]): string[] {
  return Array.from({ length: 8 }, (_, at) => (((bytes[2 * at] ?? 0) << 8) | (bytes[2 * at + 1] ?? 0)).toString(16));
}

/** An address as {@link establishedPeers} writes it. */
export function canonical(address: string): string {
  return isIPv4(address) ? address : new URL(`http://[${address.replace(/%.*$/, '')}]`).hostname.slice(1, -1);
}
