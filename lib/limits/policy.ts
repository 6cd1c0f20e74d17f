import { isIPv6 } from 'node:net';
import type { Caller, Route } from '../http/route.ts';
import type { LimitKey } from './limiter.ts';

/** Whose calls a call of a route counts as. What is read by everybody is never counted: it costs nothing but an answer. */
export function limitsOf(
  { access, limit }: Pick<Route, 'access' | 'limit'>,
  caller: Caller,
  params: Readonly<Record<string, string>>,
  headers: Headers,
): LimitKey[] {
  if (access.plane === 'join') return [{ kind: 'address', key: addressOf(headers.get('x-forwarded-for')) }];
  if (caller.plane === 'device') return [{ kind: 'device', key: caller.deviceId }];
  if (caller.plane !== 'operator') return [];
  const own: LimitKey = { kind: 'caller', key: caller.objectId };
  if (!isLimited({ access, limit })) return [];
  const isAboutDevice = limit !== 'caller' && params.deviceId !== undefined;
  return isAboutDevice ? [own, { kind: 'device', key: params.deviceId ?? '' }] : [own];
}

/** Whether calls of a route are counted at all. */
export function isLimited({ access, limit }: Pick<Route, 'access' | 'limit'>): boolean {
  if (access.plane === 'join' || access.plane === 'device' || limit === 'caller') return true;
  return access.plane === 'operator' && access.roles.every((role) => role === 'Credential.Issue');
}

/**
 * Who calls, by the last entry: the front end of App Service adds it, and the others are what the caller says. Behind one
 * IPv6 prefix of 64 bits is one site. Where nothing is in front of the app, all callers are one.
 */
export function addressOf(forwardedFor: string | null): string {
  const last = forwardedFor?.split(',').at(-1)?.trim() ?? '';
  const bare = /^\[([^\]]+)\](?::\d+)?$/.exec(last)?.[1] ?? last.replace(/^([\d.]+):\d+$/, '$1');
  return isIPv6(bare) ? prefixOf(bare) : bare.slice(0, 64);
}

function prefixOf(address: string): string {
  const mapped = /^::ffff:([\d.]+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  const [head = '', tail] = address.split('::');
  const groups = head.split(':').filter((each) => each !== '');
  const behind = tail === undefined ? [] : tail.split(':').filter((each) => each !== '');
  const zeros = tail === undefined ? 0 : 8 - groups.length - behind.length;
  const all = [...groups, ...Array.from({ length: Math.max(0, zeros) }, () => '0'), ...behind];
  return `${all
    .slice(0, 4)
    .map((each) => Number.parseInt(each, 16).toString(16))
    .join(':')}::/64`;
}
