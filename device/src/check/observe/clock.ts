import type { X509Certificate } from 'node:crypto';
import { fingerprint, subjectOf } from '../../certificates.ts';
import { askApi } from './ask-api.ts';

/** What is known of this device's clock. `isAway`: the API gave no answer at all. */
export type ClockReading =
  /** `offsetMs` is to be added to this clock. */
  | { offsetMs: number; source: string }
  /** There is no other clock, and this one cannot be right. */
  | { impossible: 'behind' | 'ahead'; evidence: string; why: string; isAway: boolean }
  /** There is no other clock, and nothing speaks against this one. */
  | { unproven: string; isAway: boolean };

export interface ClockOptions {
  api: URL | undefined;
  timeoutMs: number;
  now: () => Date;
  /** Moments that have certainly passed. */
  passed: { at: Date; what: string }[];
  /** Of the certificates that the gateway sent and the root they end in; undefined where there is no such chain. */
  chain(): Promise<X509Certificate[] | undefined>;
}

/** Joining and looking need not agree to the second. */
const slackMs = 300_000;

/** What Azure tolerates: SharedAccessSignatureConstants.MaxClockSkew of Azure/iotedge is five minutes. */
export const toleratedMs = 300_000;

/** Whether this clock cannot be gone by. */
export function isWrong(reading: ClockReading): boolean {
  return 'impossible' in reading || ('offsetMs' in reading && Math.abs(reading.offsetMs) > toleratedMs);
}

/** Compares the clock with the API's, or else with what cannot be. */
export async function readClock(options: ClockOptions): Promise<ClockReading> {
  const asked = await askForTime(options);
  if ('offsetMs' in asked) return asked;
  const now = options.now();
  const late = options.passed.find(({ at }) => now.getTime() + slackMs < at.getTime());
  if (late !== undefined) {
    return {
      impossible: 'behind',
      evidence: `${late.what} at ${late.at.toISOString()}`,
      why: asked.unproven,
      isAway: asked.isAway,
    };
  }
  const chain = await options.chain();
  const isOver = chain !== undefined && chain.length > 0 && chain.every((each) => new Date(each.validTo) < now);
  const last = chain?.at(-1);
  if (isOver && last !== undefined) {
    const until = new Date(last.validTo).toISOString();
    return {
      impossible: 'ahead',
      evidence: `"${subjectOf(last)}" expired at ${until}, and all below it`,
      why: asked.unproven,
      isAway: asked.isAway,
    };
  }
  return asked;
}

async function askForTime({
  api,
  timeoutMs,
  now,
}: ClockOptions): Promise<ClockReading & ({ offsetMs: number } | { unproven: string })> {
  if (api === undefined) return { unproven: 'no Gatepost API is known here', isAway: true };
  const compare = async (unproven: boolean) => {
    const before = now().getTime();
    const asked = await askApi({ api, path: '/api/v1/health', timeoutMs, unproven });
    return { asked, middle: (before + now().getTime()) / 2 };
  };
  let { asked, middle } = await compare(false);
  let source = api.origin;
  if ('failed' in asked && /CERT_HAS_EXPIRED|CERT_NOT_YET_VALID/.test(asked.code ?? '')) {
    // A wrong clock makes a good certificate look expired: the very thing that is to be found out.
    ({ asked, middle } = await compare(true));
    source = `${api.origin}, whose certificate cannot be checked by this clock`;
  }
  if ('failed' in asked) return { unproven: `${api.origin} cannot be asked: ${asked.failed}`, isAway: true };
  const { date } = asked.answer;
  if (date === undefined) return { unproven: `${api.origin} answers without a Date`, isAway: false };
  // The header has whole seconds, cut off.
  return { offsetMs: Math.round(date.getTime() + 500 - middle), source };
}

/** When each trusted root began: nobody hands out a root that is not valid yet, and the backend refuses to. */
export function beginnings(roots: X509Certificate[]): { at: Date; what: string }[] {
  return roots.map((root) => ({
    at: new Date(root.validFrom),
    what: `the trusted root "${subjectOf(root)}" (SHA-256 ${fingerprint(root).slice(0, 16)}...) became valid`,
  }));
}
