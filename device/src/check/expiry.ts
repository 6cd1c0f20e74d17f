import type { X509Certificate } from 'node:crypto';
import { subjectOf } from '../certificates.ts';
import type { Check, Context } from './context.ts';
import { defineCodes, type Finding, finder } from './findings.ts';

export const expiryCodes = defineCodes({
  expiry_ok: {
    severity: 'ok',
    cause: 'Every certificate of the chain is valid; the next to end is {subject}, in {days} days.',
    cure: 'Nothing needs to be done.',
    command: 'openssl s_client -connect {host}:{port} -CAfile {roots} -showcerts </dev/null',
  },
  certificate_expired: {
    severity: 'error',
    cause: 'In the chain of the gateway, {subject} expired at {end}.',
    cure: 'Renew it on the gateway and run "sudo iotedge config apply": an Edge CA given as a file is never renewed by IoT Edge, and a server certificate comes anew when edgeHub restarts.',
    command: 'openssl s_client -connect {host}:{port} -showcerts </dev/null 2>/dev/null | openssl x509 -noout -dates',
  },
  certificate_not_yet_valid: {
    severity: 'error',
    cause: 'In the chain of the gateway, {subject} begins only at {begin}, and it is {now} here.',
    cure: 'Compare both clocks: that of this device, and that of the gateway, by which the certificate was made.',
    command:
      'date -u; openssl s_client -connect {host}:{port} -showcerts </dev/null 2>/dev/null | openssl x509 -noout -dates',
  },
  certificate_ends_in_7_days: {
    severity: 'warning',
    cause: 'In the chain of the gateway, {subject} ends in {days} days, at {end}.',
    cure: 'Renew it now: on the gateway, replace the files of [edge_ca] and run "sudo iotedge config apply"; a root is first handed out to all devices.',
    command: 'openssl s_client -connect {host}:{port} -CAfile {roots} -showcerts </dev/null',
  },
  certificate_ends_in_30_days: {
    severity: 'warning',
    cause: 'In the chain of the gateway, {subject} ends in {days} days, at {end}.',
    cure: 'Plan its renewal: on the gateway, replace the files of [edge_ca] and run "sudo iotedge config apply"; a root is first handed out to all devices.',
    command: 'openssl s_client -connect {host}:{port} -CAfile {roots} -showcerts </dev/null',
  },
  certificate_past_80_percent: {
    severity: 'warning',
    cause: 'In the chain of the gateway, {subject} has lived {percent} % of its time, and ends at {end}.',
    cure: 'IoT Edge renews an Edge CA at 80 % where [edge_ca] auto_renew is on: look why it did not, or renew it by hand.',
    command: 'openssl s_client -connect {host}:{port} -CAfile {roots} -showcerts </dev/null',
  },
  server_certificate_ending: {
    severity: 'info',
    cause: "The gateway's own certificate {subject} ends at {end}, in {days} days.",
    cure: 'Nothing needs to be done: edgeHub fetches a new one shortly before, by restarting itself.',
    command: 'openssl s_client -connect {host}:{port} </dev/null 2>/dev/null | openssl x509 -noout -dates',
  },
});

const found = finder(expiryCodes);
const dayMs = 86_400_000;
/** edgeHub asks for 90 days and gets 30 (Azure/iotedge, Constants.cs; edgelet-http-workload, module/cert/server.rs). */
const renewedByItselfDays = 92;
/** A certificate that lives for two months or less is within its last 30 days for half of its life. */
const longLivedDays = 61;

export const expiryCheck: Check = {
  name: 'expiry',
  title: 'the dates of every certificate in the chain',
  needs: ['peer'],
  ownOnly: false,
  async run(context) {
    const now = await context.observe.time();
    if (now === undefined) return { skippedFor: 'clock' };
    const { certificates } = await context.observe.path();
    const sent = await context.observe.sent();
    // What is sent and belongs to no chain harms nobody.
    const inChain = certificates.length > 1 ? certificates : sent;
    const findings = inChain.flatMap((each, at) => judge(context, each, { isServer: at === 0, now }));
    const [soonest] = [...inChain].sort((one, other) => end(one) - end(other));
    if (findings.length > 0 || soonest === undefined) return findings;
    return [found('expiry_ok', context.common, { subject: named(soonest), days: daysLeft(soonest, now) })];
  },
};

function judge(
  { common }: Context,
  certificate: X509Certificate,
  { isServer, now }: { isServer: boolean; now: Date },
): Finding[] {
  const subject = named(certificate);
  const begins = new Date(certificate.validFrom);
  const ends = new Date(certificate.validTo).toISOString();
  if (begins > now) {
    return [
      found('certificate_not_yet_valid', common, { subject, begin: begins.toISOString(), now: now.toISOString() }),
    ];
  }
  if (end(certificate) < now.getTime()) return [found('certificate_expired', common, { subject, end: ends })];
  const days = daysLeft(certificate, now);
  const lifeMs = end(certificate) - begins.getTime();
  const isLong = lifeMs > longLivedDays * dayMs;
  const percent = Math.floor(((now.getTime() - begins.getTime()) / lifeMs) * 100);
  const isOld = percent >= 80;
  if (isServer && lifeMs <= renewedByItselfDays * dayMs) {
    return days < 7 ? [found('server_certificate_ending', common, { subject, end: ends, days })] : [];
  }
  if (days < 7) return [found('certificate_ends_in_7_days', common, { subject, end: ends, days })];
  if (days < 30 && isLong) return [found('certificate_ends_in_30_days', common, { subject, end: ends, days })];
  return isOld ? [found('certificate_past_80_percent', common, { subject, end: ends, percent })] : [];
}

function end(certificate: X509Certificate): number {
  return new Date(certificate.validTo).getTime();
}

function daysLeft(certificate: X509Certificate, now: Date): number {
  return Math.floor((end(certificate) - now.getTime()) / dayMs);
}

function named(certificate: X509Certificate): string {
  return `"${subjectOf(certificate)}"`;
}
