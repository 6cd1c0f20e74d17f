import type { X509Certificate } from 'node:crypto';
import { fingerprint, subjectOf } from '../certificates.ts';
import { GatepostDeviceError } from '../errors.ts';
import { count } from '../words.ts';
import type { Machine } from './machine.ts';
import { execute, type Step } from './steps.ts';
import type { OwnRoot, TrustStore } from './store.ts';

/** What there is to do, before it is done. */
export interface InstallPlan {
  /** Not installed, or not in effect. */
  missing: X509Certificate[];
  /** Installed by Gatepost, and in effect. */
  present: X509Certificate[];
  /** In effect by somebody else's doing: left as it is, so that `remove` leaves it as well. */
  others: X509Certificate[];
  /** Installed by Gatepost, and no longer wanted. */
  left: OwnRoot[];
  steps: Step[];
}

/** Compares what is wanted with what the store really holds. Changes nothing. */
export async function planInstall(store: TrustStore, roots: X509Certificate[]): Promise<InstallPlan> {
  const [ours, trusted] = [await store.ours(), await store.trusted()];
  const own = new Set(ours.flatMap(({ certificate }) => (certificate === undefined ? [] : [fingerprint(certificate)])));
  const wanted = new Set(roots.map(fingerprint));
  const missing = roots.filter((root) => !trusted.has(fingerprint(root)));
  const inEffect = roots.filter((root) => trusted.has(fingerprint(root)));
  return {
    missing,
    present: inEffect.filter((root) => own.has(fingerprint(root))),
    others: inEffect.filter((root) => !own.has(fingerprint(root))),
    left: ours.filter(({ certificate }) => certificate === undefined || !wanted.has(fingerprint(certificate))),
    steps: missing.length === 0 ? [] : await store.add(missing),
  };
}

/**
 * Does what was planned and reads the store back: what a tool reports is not what it did. Throws `trust_incomplete`,
 * `trust_not_permitted`, and `trust_unverified` where the store does not hold a root although every step succeeded.
 */
export async function install(store: TrustStore, plan: InstallPlan, machine: Machine): Promise<void> {
  await store.ready();
  await execute(plan.steps, machine);
  const [ours, trusted] = [await store.ours(), await store.trusted()];
  const own = new Set(ours.flatMap(({ certificate }) => (certificate === undefined ? [] : [fingerprint(certificate)])));
  const absent = plan.missing.filter((root) => !trusted.has(fingerprint(root)));
  if (absent.length > 0) {
    throw new GatepostDeviceError(
      'trust_unverified',
      `Every step reported success, but ${store.reads} does not hold ${names(absent)}: it is not trusted. ` +
        `Look at what stands in the way and run it again; ${tool(plan.steps)} says more on a terminal.`,
    );
  }
  const unmarked = plan.missing.filter((root) => !own.has(fingerprint(root)));
  if (unmarked.length > 0) {
    throw new GatepostDeviceError(
      'trust_unverified',
      `${names(unmarked)} is trusted now, but not marked as Gatepost's: remove would not find it. Run it again.`,
    );
  }
}

/** What `remove` takes away: what has left the bundle, or all. */
export async function planRemoval(
  store: TrustStore,
  wanted: X509Certificate[] | 'none',
): Promise<{ roots: OwnRoot[]; kept: OwnRoot[]; steps: Step[] }> {
  const keep = new Set(wanted === 'none' ? [] : wanted.map(fingerprint));
  const ours = await store.ours();
  const stays = ({ certificate }: OwnRoot) => certificate !== undefined && keep.has(fingerprint(certificate));
  const roots = ours.filter((own) => !stays(own));
  return { roots, kept: ours.filter(stays), steps: roots.length === 0 ? [] : await store.remove(roots) };
}

/** Does what was planned and reads the store back. Throws as {@link install} does. */
export async function remove(
  store: TrustStore,
  plan: { roots: OwnRoot[]; steps: Step[] },
  machine: Machine,
): Promise<void> {
  if (plan.steps.length === 0) return;
  await store.ready();
  await execute(plan.steps, machine);
  const trusted = await store.trusted();
  const still = plan.roots.flatMap(({ certificate }) =>
    certificate !== undefined && trusted.has(fingerprint(certificate)) ? [certificate] : [],
  );
  if (still.length === 0) return;
  throw new GatepostDeviceError(
    'trust_unverified',
    `${count(plan.roots.length, 'root')} of Gatepost's removed, but ${store.reads} still holds ${names(still)}: ` +
      "somebody else installed it as well (that is not Gatepost's to remove), or the store was not made anew.",
  );
}

function names(roots: X509Certificate[]): string {
  return roots.map((root) => `"${subjectOf(root)}" (${fingerprint(root).slice(0, 16)}…)`).join(', ');
}

function tool(steps: Step[]): string {
  const step = steps.findLast((each) => each.kind === 'run');
  return step?.kind === 'run' ? step.command : 'it';
}
