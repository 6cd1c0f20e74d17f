import { createPrivateKey, type KeyObject, type X509Certificate } from 'node:crypto';
import { GatepostError, type ProblemCode } from '../errors.ts';
import { Redacted } from '../redacted.ts';
import { certificateOf, pemLabels } from './certificate.ts';
import { type LintFault, lintRoot } from './lint.ts';
import { certificateOfPfx } from './pfx.ts';

/** A root as a caller sends it: a public certificate, a CA with its key, or a PFX of both. */
export type RootInput =
  | { name: string; pem: string; key?: Redacted | undefined }
  | { name: string; pfx: Redacted; password?: Redacted | undefined };

/** A root that passed every rule, and what has to be kept of it. */
export interface RootMaterial {
  certificate: X509Certificate;
  /** For a CA whose key is handed over: what Key Vault imports. */
  authority: AuthorityMaterial | undefined;
}

export type AuthorityMaterial =
  | { format: 'pem' /** The certificate and its PKCS#8 key. */; content: Redacted }
  | { format: 'pfx' /** Base64. */; content: Redacted; password: Redacted | undefined };

/** Reads and checks a root. Throws one problem that names the first rule that failed and lists them all. */
export async function readRoot(input: RootInput, now: Date): Promise<RootMaterial> {
  return 'pfx' in input ? readPfx(input.pfx, input.password, now) : readPem(input.pem, input.key, now);
}

function readPem(pem: string, key: Redacted | undefined, now: Date): RootMaterial {
  const faults = checkBlocks(pem);
  const certificate = certificateOf(pem);
  if (certificate === undefined) {
    refuseIfAny(faults, '/pem');
    throw lintProblem([notPem()], '/pem');
  }
  refuseIfAny([...faults, ...lintRoot(certificate, now)], '/pem');
  if (key === undefined) return { certificate, authority: undefined };
  const pkcs8 = readKey(key, certificate);
  return { certificate, authority: { format: 'pem', content: new Redacted(`${certificate.toString()}${pkcs8}`) } };
}

function checkBlocks(pem: string): LintFault[] {
  const labels = pemLabels(pem);
  const faults: LintFault[] = [];
  if (labels.some((label) => label.endsWith('PRIVATE KEY'))) {
    const detail =
      'The field pem carries a private key. Leave the key out; or, to keep the CA with its key in Key Vault, send the key in the field key.';
    faults.push({ code: 'root_private_key_present', detail });
  }
  const certificates = labels.filter((label) => label === 'CERTIFICATE').length;
  if (certificates === 0) faults.push(notPem());
  if (certificates > 1) {
    const detail = `There are ${certificates} certificates. Send the root alone, without the chain below it; import further roots one by one.`;
    faults.push({ code: 'root_several_certificates', detail });
  }
  return faults;
}

function notPem(): LintFault {
  return { code: 'root_not_pem', detail: 'Send one block -----BEGIN CERTIFICATE----- ... -----END CERTIFICATE-----.' };
}

/** The key as PKCS#8 PEM, the only form that Key Vault imports. */
function readKey(key: Redacted, certificate: X509Certificate): string {
  let privateKey: KeyObject;
  try {
    privateKey = createPrivateKey(key.reveal());
  } catch {
    throw invalidKey('Send the private key as unencrypted PKCS#8: -----BEGIN PRIVATE KEY-----.');
  }
  if (!certificate.checkPrivateKey(privateKey)) {
    throw lintProblem(
      [{ code: 'root_key_mismatch', detail: 'Send the key with which the certificate was signed.' }],
      '/key',
    );
  }
  return privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
}

function invalidKey(detail: string): GatepostError {
  return new GatepostError('invalid_request', `/key: ${detail}`, { errors: [{ pointer: '/key', detail }] });
}

async function readPfx(pfx: Redacted, password: Redacted | undefined, now: Date): Promise<RootMaterial> {
  const certificate = await certificateOfPfx(Buffer.from(pfx.reveal(), 'base64'), password);
  refuseIfAny(lintRoot(certificate, now), '/pfx');
  return { certificate, authority: { format: 'pfx', content: pfx, password } };
}

function refuseIfAny(faults: LintFault[], pointer: string): void {
  if (faults.length > 0) throw lintProblem(faults, pointer);
}

function lintProblem(faults: LintFault[], pointer: string): GatepostError {
  const code: ProblemCode = faults[0]?.code ?? 'root_not_pem';
  const detail = faults.map((fault) => fault.detail).join(' ');
  return new GatepostError(code, detail, { errors: faults.map((fault) => ({ pointer, ...fault })) });
}
