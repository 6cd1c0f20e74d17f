import type { X509Certificate } from 'node:crypto';
import { fingerprint, subjectOf } from '../certificates.ts';
import { count } from '../words.ts';
import type { TrustStore } from './store.ts';

/** A root that Gatepost installed, or that it should have installed. */
export interface RootStatus {
  subject: string | null;
  sha256: string | null;
  /** Where it is, as the system calls it; null where it is not installed. */
  mark: string | null;
  notAfter: string | null;
  /** Whole days until it expires; negative afterwards. */
  daysLeft: number | null;
  /** Whether the store really trusts it. */
  trusted: boolean;
  /** Whether it is in the current bundle; null where none is known. */
  inBundle: boolean | null;
  warnings: string[];
}

const day = 86_400_000;
/** IoT Edge renews an Edge CA in the last days of its life; a root has to be replaced by people, who need longer. */
const warnDays = 30;

/** What Gatepost installed, and what of the bundle is not installed. */
export async function trustStatus(
  store: TrustStore,
  bundle: X509Certificate[] | undefined,
  now: Date,
): Promise<RootStatus[]> {
  const [ours, trusted] = [await store.ours(), await store.trusted()];
  const wanted = new Map(bundle?.map((root) => [fingerprint(root), root]));
  const installed = ours.map(({ mark, certificate }): RootStatus => {
    if (certificate === undefined) {
      const warnings = ['damaged: it is not the certificate that its name says; install or remove heals it'];
      return { ...nothing, mark, trusted: false, inBundle: null, warnings };
    }
    const inBundle = bundle === undefined ? null : wanted.delete(fingerprint(certificate));
    const isTrusted = trusted.has(fingerprint(certificate));
    const warnings = [
      ...(isTrusted ? [] : ['installed, but the system does not trust it: run install again']),
      ...(inBundle === false ? ['has left the bundle: gatepost-device trust remove takes it away'] : []),
      ...expiry(certificate, now),
    ];
    return { ...facts(certificate, now), mark, trusted: isTrusted, inBundle, warnings };
  });
  const others = [...wanted].map(([sha256, root]): RootStatus => {
    const isTrusted = trusted.has(sha256);
    const warnings = [isTrusted ? 'trusted, but not installed by Gatepost' : 'in the bundle, but not installed'];
    return {
      ...facts(root, now),
      mark: null,
      trusted: isTrusted,
      inBundle: true,
      warnings: [...warnings, ...expiry(root, now)],
    };
  });
  return [...installed, ...others];
}

/** Whether what Gatepost installed is in effect. */
export function isInEffect(roots: RootStatus[]): boolean {
  return roots.every(({ mark, trusted }) => mark === null || trusted);
}

export function statusLines(roots: RootStatus[]): string[] {
  return roots.flatMap(({ subject, sha256, mark, notAfter, daysLeft, trusted, inBundle, warnings }) => [
    `${mark === null ? '-' : trusted ? 'ok' : '!!'}  ${subject ?? mark}`,
    ...(sha256 === null ? [] : [`    sha256   ${sha256}`]),
    ...(notAfter === null ? [] : [`    expires  ${notAfter.slice(0, 10)}, ${count(daysLeft ?? 0, 'day')} left`]),
    ...(mark === null ? [] : [`    is       ${mark}`]),
    ...(inBundle === null ? [] : [`    bundle   ${inBundle ? 'current' : 'left'}`]),
    ...warnings.map((warning) => `    warning  ${warning}`),
  ]);
}

const nothing = { subject: null, sha256: null, notAfter: null, daysLeft: null };

function facts(root: X509Certificate, now: Date) {
  const notAfter = new Date(root.validTo);
  const daysLeft = Math.floor((notAfter.getTime() - now.getTime()) / day);
  return { subject: subjectOf(root), sha256: fingerprint(root), notAfter: notAfter.toISOString(), daysLeft };
}

/** What there is to say about the validity of a root. */
export function expiry(root: X509Certificate, now: Date): string[] {
  const { daysLeft } = facts(root, now);
  if (new Date(root.validFrom) > now) return ['is not valid yet: check the clock of this device'];
  if (daysLeft < 0) return ['has expired: nothing that it signed is trusted any more'];
  return daysLeft > warnDays ? [] : [`expires in ${count(daysLeft, 'day')}: have its successor rolled out`];
}
