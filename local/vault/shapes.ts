import type { Reply } from '../kit/https-server.ts';
import { badParameter, type Kind } from './errors.ts';
import type { StoredObject, VaultSettings, Version } from './object-store.ts';

const maxPage = 25;

export function objectId(settings: VaultSettings, kind: string, name: string, version?: string): string {
  return `${settings.url}/${kind}/${name}${version === undefined ? '' : `/${version}`}`;
}

/** The `attributes` of an answer. Seven to 89 days of retention are called customized. */
export function toAttributes(settings: VaultSettings, version: Version): Record<string, unknown> {
  const recoverableDays = Math.max(1, Math.ceil(settings.softDeleteSeconds / 86_400));
  const customized = recoverableDays < 90 ? 'CustomizedRecoverable' : 'Recoverable';
  return {
    enabled: version.enabled,
    ...(version.nbf === undefined ? {} : { nbf: version.nbf }),
    ...(version.exp === undefined ? {} : { exp: version.exp }),
    created: version.created,
    updated: version.updated,
    recoveryLevel: settings.purgeProtection ? customized : `${customized}+Purgeable`,
    recoverableDays,
  };
}

/** What a deleted object's answer has in addition. */
export function toDeletion(
  settings: VaultSettings,
  kind: Kind,
  object: StoredObject<Version>,
): Record<string, unknown> {
  if (object.deleted === undefined) return {};
  return { recoveryId: objectId(settings, `deleted${kind}`, object.name), ...object.deleted };
}

/** One page of a list, at most 25 items, with a link to the next that is fetched as it stands. */
export function page<T>(settings: VaultSettings, path: string, query: URLSearchParams, items: T[]): Reply {
  const size = query.has('maxresults') ? Number(query.get('maxresults')) : maxPage;
  if (!Number.isInteger(size) || size < 1 || size > maxPage) {
    throw badParameter(`Invalid value '${query.get('maxresults')}' of maxresults: it must be from 1 to ${maxPage}.`);
  }
  const start = readSkip(query.get('$skiptoken'));
  const next = new URLSearchParams({
    'api-version': query.get('api-version') ?? '',
    $skiptoken: Buffer.from(`skip:${start + size}`).toString('base64url'),
    maxresults: String(size),
  });
  if (query.has('includePending')) next.set('includePending', query.get('includePending') ?? '');
  const hasMore = start + size < items.length;
  return {
    status: 200,
    body: { value: items.slice(start, start + size), nextLink: hasMore ? `${settings.url}${path}?${next}` : null },
  };
}

function readSkip(token: string | null): number {
  if (token === null) return 0;
  const skip = /^skip:(\d+)$/.exec(Buffer.from(token, 'base64url').toString())?.[1];
  if (skip === undefined) throw badParameter('The $skiptoken is invalid.');
  return Number(skip);
}

/** Versions are listed in the order of their ids, not of their age. */
export function byVersion(left: Version, right: Version): number {
  return left.version < right.version ? -1 : 1;
}

export function latest<V extends Version>(object: StoredObject<V>): V {
  const version = object.versions.at(-1);
  if (version === undefined) throw new Error(`${object.name} has no version.`);
  return version;
}
