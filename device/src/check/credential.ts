import type { X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { readCertificates, subjectOf } from '../certificates.ts';
import { reasonOf } from '../errors.ts';
import type { ClientCertificate } from '../session.ts';
import type { Check, Context, Outcome, Own } from './context.ts';
import { defineCodes, type Finding, finder } from './findings.ts';
import { commonNameOf, isSelfSigned } from './observe/path.ts';
import { readSasToken } from './observe/sas-token.ts';

export const credentialCodes = defineCodes({
  key_ok: {
    severity: 'ok',
    cause:
      'The symmetric key of {device} has the shape of one; only the gateway or the API can tell whether it is the right one.',
    cure: 'Nothing needs to be done.',
    command: 'gatepost-device check --state {state} --connect',
  },
  key_damaged: {
    severity: 'error',
    cause: 'The symmetric key of {device} is damaged: {reason}.',
    cure: 'Join again; a key that was copied by hand often lacks its end.',
    command: 'sed -n "s/.*SharedAccessKey=\\([^;\\"]*\\).*/\\1/p" {state}/document.json | base64 -d | wc -c',
  },
  sas_ok: {
    severity: 'ok',
    cause: 'The SAS token of {device} is for it, and ends at {end}.',
    cure: 'Nothing needs to be done.',
    command: 'grep -o "[&]se=[0-9]*" {state}/document.json',
  },
  sas_expired: {
    severity: 'error',
    cause: 'The SAS token of {device} expired at {end}.',
    cure: 'Join again for a fresh one, or onboard the device with a key, from which it makes its own.',
    command: 'date -u; grep -o "[&]se=[0-9]*" {state}/document.json',
  },
  sas_ends_soon: {
    severity: 'warning',
    cause: 'The SAS token of {device} ends in {seconds} s, at {end}.',
    cure: 'Have a fresh one fetched before: a gateway cuts a connection off whose token has ended.',
    command: 'date -u; grep -o "[&]se=[0-9]*" {state}/document.json',
  },
  sas_for_other: {
    severity: 'error',
    cause: 'The SAS token is for {resource}, and this device is {own}.',
    cure: 'Join again: a token is good for the identity and the IoT Hub that it was signed for.',
    command: 'grep -o "sr=[^&]*" {state}/document.json',
  },
  sas_by_policy: {
    severity: 'error',
    cause:
      'The SAS token was signed with a policy of the IoT Hub ({policy}): edgeHub accepts the own keys of a device only.',
    cure: 'Sign it with the own key of the device, without skn; Gatepost does.',
    command: 'grep -o "skn=[^&;\\"]*" {state}/document.json',
  },
  sas_not_encoded: {
    severity: 'error',
    cause: 'The signature in the SAS token is not percent-encoded: edgeHub splits it at "=" and takes "+" for a space.',
    cure: 'Encode it as %3D and %2B; Gatepost does.',
    command: 'grep -c "sig=[^&]*[=+]" {state}/document.json',
  },
  x509_ok: {
    severity: 'ok',
    cause: 'The certificate {subject} fits its key, and ends at {end}.',
    cure: 'Nothing needs to be done.',
    command: 'openssl x509 -noout -subject -dates -in CERT.pem',
  },
  x509_not_given: {
    severity: 'warning',
    cause:
      '{device} proves itself by a certificate, which was not named here: it was not checked, and no connection tried.',
    cure: 'Name it with --cert FILE --key FILE, as for gatepost-device run.',
    command: 'gatepost-device check --state {state} --cert CERT.pem --key KEY.pem',
  },
  x509_unreadable: {
    severity: 'error',
    cause: 'The certificate or the key of {device} cannot be read: {reason}.',
    cure: 'Give both as PEM: the certificate with its intermediates, the key unencrypted or with --key-passphrase-file.',
    command: 'openssl x509 -noout -subject -in CERT.pem; openssl pkey -noout -in KEY.pem',
  },
  x509_key_mismatch: {
    severity: 'error',
    cause: 'The key is not that of the certificate {subject}.',
    cure: 'Find the key that was made with it; a renewed certificate often comes with a new key.',
    command: 'openssl x509 -noout -pubkey -in CERT.pem; openssl pkey -pubout -in KEY.pem',
  },
  x509_expired: {
    severity: 'error',
    cause: 'The certificate {subject} of this device expired at {end}.',
    cure: 'Renew it, and where the device is known by its thumbprint, have the new one registered.',
    command: 'date -u; openssl x509 -noout -dates -in CERT.pem',
  },
  x509_not_yet_valid: {
    severity: 'error',
    cause: 'The certificate {subject} of this device begins only at {begin}.',
    cure: 'Compare the clock of the machine that made it with that of the gateway.',
    command: 'date -u; openssl x509 -noout -dates -in CERT.pem',
  },
  x509_ends_soon: {
    severity: 'warning',
    cause: 'The certificate {subject} of this device ends in {days} days, at {end}.',
    cure: 'Renew it before, and where the device is known by its thumbprint, have the new one registered as the secondary.',
    command: 'openssl x509 -noout -dates -in CERT.pem',
  },
  x509_is_ca: {
    severity: 'error',
    cause: 'The certificate {subject} is a CA: edgeHub lets no CA in as a device.',
    cure: 'Name the certificate of the device, first in its file, and not that of its issuer.',
    command: 'openssl x509 -noout -subject -ext basicConstraints -in CERT.pem',
  },
  x509_name_differs: {
    severity: 'warning',
    cause:
      'The certificate has the common name {name} and the device is {device}: for a device known by its CA, edgeHub demands that they are equal.',
    cure: 'Have it issued for CN={device}; only for a device known by its thumbprint is this well.',
    command: 'openssl x509 -noout -subject -in CERT.pem',
  },
  x509_alone: {
    severity: 'info',
    cause: 'The file of the certificate {subject} holds no intermediates, and it is not self-signed.',
    cure: 'Unless its issuer is in the trust bundle of the gateway, append the intermediates: cat device.pem intermediate.pem.',
    command: 'grep -c BEGIN CERT.pem',
  },
});

const found = finder(credentialCodes);
/** IoT Hub takes keys of 16 to 64 bytes (learn.microsoft.com/azure/iot-hub, identity registry; error InvalidKey else). */
const keyBytes = { least: 16, most: 64 };
const soonMs = 300_000;
const dayMs = 86_400_000;

export const credentialCheck: Check = {
  name: 'credential',
  title: 'the credential of this device',
  needs: ['state'],
  ownOnly: true,
  async run(context): Promise<Outcome> {
    const { own, observe } = context;
    if (own === undefined) return { skippedFor: 'state' };
    const { credential } = own.string;
    if (credential.kind === 'key') return [judgeKey(context, credential.sharedAccessKey)];
    const now = await observe.time();
    if (now === undefined) return { skippedFor: 'clock' };
    if (credential.kind === 'sas') return judgeToken(context, own, credential.sharedAccessSignature, now);
    return own.certificate === undefined
      ? [found('x509_not_given', context.common, {})]
      : judgeCertificate(context, own, own.certificate, now);
  },
};

function judgeKey({ common }: Context, key: string): Finding {
  const bytes = Buffer.from(key, 'base64');
  if (bytes.toString('base64') !== key) return found('key_damaged', common, { reason: 'it is not whole base64' });
  if (bytes.length < keyBytes.least || bytes.length > keyBytes.most) {
    const reason = `it has ${bytes.length} bytes, and a key has ${keyBytes.least} to ${keyBytes.most}`;
    return found('key_damaged', common, { reason });
  }
  return found('key_ok', common, {});
}

function judgeToken({ common, host }: Context, own: Own, text: string, now: Date): Finding[] {
  const token = readSasToken(text);
  // The document did not read where it is no token at all.
  if (token === undefined) return [found('sas_not_encoded', common, {})];
  const findings: Finding[] = [];
  if (!isFor(token.resource, own, host)) {
    findings.push(found('sas_for_other', common, { resource: token.resource, own: own.resource }));
  }
  if (token.policy !== undefined) findings.push(found('sas_by_policy', common, { policy: token.policy }));
  if (!token.isEncoded) findings.push(found('sas_not_encoded', common, {}));
  const end = token.expiresAt.toISOString();
  const left = token.expiresAt.getTime() - now.getTime();
  if (left <= 0) findings.push(found('sas_expired', common, { end }));
  else if (left < soonMs) findings.push(found('sas_ends_soon', common, { end, seconds: Math.round(left / 1000) }));
  return findings.length > 0 ? findings : [found('sas_ok', common, { end })];
}

/** The host is the hub's or the gateway's, and a device's token is good for its modules (DeviceScopeTokenAuthenticator.cs). */
function isFor(resource: string, { resource: own, string }: Own, gateway: string): boolean {
  const [host = '', ...path] = resource.toLowerCase().split('/');
  const given = path.join('/');
  const wanted = own.toLowerCase().split('/').slice(1).join('/');
  const isHost = host === string.hub || host === gateway;
  return isHost && (given === wanted || given === `devices/${string.deviceId.toLowerCase()}`);
}

function judgeCertificate({ common }: Context, own: Own, given: ClientCertificate, now: Date): Finding[] {
  let certificates: X509Certificate[];
  try {
    certificates = readCertificates(given.certificate);
    createSecureContext({
      key: given.key,
      ...(given.passphrase === undefined ? {} : { passphrase: given.passphrase }),
    });
  } catch (error) {
    return [found('x509_unreadable', common, { reason: reasonOf(error) })];
  }
  const [leaf] = certificates;
  if (leaf === undefined) return [found('x509_unreadable', common, { reason: 'the file holds no certificate' })];
  const subject = `"${subjectOf(leaf)}"`;
  const end = new Date(leaf.validTo);
  const begin = new Date(leaf.validFrom);
  const findings: Finding[] = [];
  if (!fits(given)) findings.push(found('x509_key_mismatch', common, { subject }));
  if (begin > now) findings.push(found('x509_not_yet_valid', common, { subject, begin: begin.toISOString() }));
  const days = Math.floor((end.getTime() - now.getTime()) / dayMs);
  if (days < 0) findings.push(found('x509_expired', common, { subject, end: end.toISOString() }));
  else if (isEnding(begin, end, now)) {
    findings.push(found('x509_ends_soon', common, { subject, end: end.toISOString(), days }));
  }
  if (leaf.ca) findings.push(found('x509_is_ca', common, { subject }));
  if (!isSelfSigned(leaf)) {
    const name = commonNameOf(leaf) ?? '(none)';
    if (name !== own.string.deviceId) findings.push(found('x509_name_differs', common, { name }));
    if (certificates.length === 1) findings.push(found('x509_alone', common, { subject }));
  }
  return findings.length > 0 ? findings : [found('x509_ok', common, { subject, end: end.toISOString() })];
}

/** Within its last week, or past 80 % of its life. */
function isEnding(begin: Date, end: Date, now: Date): boolean {
  const left = end.getTime() - now.getTime();
  const life = end.getTime() - begin.getTime();
  return left < Math.min(7 * dayMs, life / 2) || left < life * 0.2;
}

function fits({ certificate, key, passphrase }: ClientCertificate): boolean {
  try {
    createSecureContext({ cert: certificate, key, ...(passphrase === undefined ? {} : { passphrase }) });
    return true;
  } catch {
    return false;
  }
}
