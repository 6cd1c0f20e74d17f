import { lookup } from 'node:dns/promises';
import { connect, isIP } from 'node:net';
import { reasonOf, systemCode } from '../../errors.ts';

/** All addresses of a name. Rejects as `dns.promises.lookup` does. */
export type Lookup = (host: string) => Promise<string[]>;

/** As every program of this machine looks names up, hosts file included. */
export const systemLookup: Lookup = async (host) => (await lookup(host, { all: true })).map(({ address }) => address);

export type Resolved = { addresses: string[] } | { failed: string; code: string };

export async function resolve(host: string, look: Lookup): Promise<Resolved> {
  if (isIP(host) !== 0) return { addresses: [host] };
  try {
    const addresses = await look(host);
    return addresses.length > 0 ? { addresses } : { failed: 'the name has no address', code: 'ENODATA' };
  } catch (error) {
    return { failed: reasonOf(error), code: systemCode(error) ?? '' };
  }
}

/** `open` is the address that answered. */
export type Dialled = { open: string } | { failed: 'refused' | 'silent' | 'unreachable'; reason: string };

/** Opens and closes one TCP connection, to the first of the addresses that answers. */
export async function dial(addresses: string[], port: number, timeoutMs: number): Promise<Dialled> {
  let first: Dialled | undefined;
  for (const address of addresses) {
    const dialled = await dialOne(address, port, timeoutMs);
    if ('open' in dialled) return dialled;
    first ??= dialled;
  }
  return first ?? { failed: 'unreachable', reason: 'there is no address' };
}

function dialOne(address: string, port: number, timeoutMs: number): Promise<Dialled> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port });
    const settle = (result: Dialled) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(result);
    };
    const timer = setTimeout(() => {
      settle({ failed: 'silent', reason: `${address} gave no answer within ${timeoutMs / 1000} s` });
    }, timeoutMs);
    socket.once('connect', () => settle({ open: address }));
    socket.on('error', (error) => {
      const code = systemCode(error);
      const failed =
        code === 'ECONNREFUSED' || code === 'ECONNRESET' ? 'refused' : code === 'ETIMEDOUT' ? 'silent' : 'unreachable';
      settle({ failed, reason: reasonOf(error) });
    });
  });
}
