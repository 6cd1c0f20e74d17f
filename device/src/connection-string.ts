import { GatepostDeviceError } from './errors.ts';

/** How a device proves itself, as its connection string says. */
export type Credential =
  | { kind: 'key'; sharedAccessKey: string; sharedAccessKeyName: string | undefined }
  | { kind: 'sas'; sharedAccessSignature: string; expiresAt: Date }
  | { kind: 'x509' };

export interface GatewayAddress {
  /** The host name as the gateway's certificate must carry it. */
  host: string;
  /** Present where the string itself names a port: `GatewayHostName=host:port`. */
  port: number | undefined;
}

export interface ConnectionString {
  hub: string;
  deviceId: string;
  moduleId: string | undefined;
  gateway: GatewayAddress;
  credential: Credential;
}

const known = ['HostName', 'DeviceId', 'ModuleId', 'SharedAccessKeyName', 'GatewayHostName', 'GatewayHost'] as const;
const secrets = ['SharedAccessKey', 'SharedAccessSignature', 'x509'] as const;

/**
 * Reads a gateway-aware connection string. `GatewayHost`, which one page of Microsoft's prints and no SDK reads, is taken
 * for `GatewayHostName`. Throws `document_invalid`; its message never quotes the string, which holds a secret.
 */
export function parseConnectionString(text: string): ConnectionString {
  const fields = readFields(text);
  const credential = readCredential(fields);
  const moduleId = fields.get('ModuleId');
  if (moduleId !== undefined && credential.kind === 'x509') {
    throw invalid('a module cannot use X.509 behind a gateway: edgeHub accepts symmetric keys only for modules');
  }
  return {
    hub: required(fields, 'HostName').toLowerCase(),
    deviceId: required(fields, 'DeviceId'),
    moduleId,
    gateway: readGateway(fields),
    credential,
  };
}

/** The same credential in the long form, in the order that the backend writes. */
export function formatConnectionString(parts: ConnectionString): string {
  const { hub, deviceId, moduleId, gateway, credential } = parts;
  const proofs = {
    key: () => [
      ...(credential.kind === 'key' && credential.sharedAccessKeyName !== undefined
        ? [`SharedAccessKeyName=${credential.sharedAccessKeyName}`]
        : []),
      `SharedAccessKey=${credential.kind === 'key' ? credential.sharedAccessKey : ''}`,
    ],
    sas: () => [`SharedAccessSignature=${credential.kind === 'sas' ? credential.sharedAccessSignature : ''}`],
    x509: () => ['x509=true'],
  };
  return [
    `HostName=${hub}`,
    `DeviceId=${deviceId}`,
    ...(moduleId === undefined ? [] : [`ModuleId=${moduleId}`]),
    ...proofs[credential.kind](),
    `GatewayHostName=${gateway.port === undefined ? gateway.host : `${gateway.host}:${gateway.port}`}`,
  ].join(';');
}

/** Reads `host` or `host:port`. Throws `document_invalid`. */
export function parseGatewayAddress(text: string): GatewayAddress {
  const [, host, port] = /^([^:]+)(?::(\d{1,5}))?$/.exec(text) ?? [];
  if (host === undefined || !isHostName(host)) throw invalid('GatewayHostName is not a host name or host:port');
  const number = port === undefined ? undefined : Number(port);
  if (number !== undefined && (number < 1 || number > 65_535))
    throw invalid('the port of GatewayHostName is not a port');
  return { host: host.toLowerCase(), port: number };
}

/** RFC 1035 labels (or an IPv4 address, which has the same characters). */
export function isHostName(text: string): boolean {
  return text.length <= 253 && text.split('.').every((label) => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i.test(label));
}

/** When a SAS token ends: its `se` field. Throws `document_invalid` where the token does not read as one. */
export function sasExpiry(token: string): Date {
  const [scheme, query, ...rest] = token.split(/\s+/);
  const fields = new URLSearchParams(query ?? '');
  const seconds = Number(fields.get('se'));
  const complete = fields.has('sr') && fields.has('sig') && Number.isSafeInteger(seconds) && seconds > 0;
  if (scheme !== 'SharedAccessSignature' || rest.length > 0 || !complete) {
    throw invalid('SharedAccessSignature is not a SAS token (SharedAccessSignature sr=...&sig=...&se=...)');
  }
  return new Date(seconds * 1000);
}

/** Splits at `;` and at the first `=` of each part, as azure-iot-common's createDictionary does. */
function readFields(text: string): Map<string, string> {
  const fields = new Map<string, string>();
  for (const part of text.trim().split(';')) {
    if (part === '') continue;
    const at = part.indexOf('=');
    const name = part.slice(0, at);
    if (at < 1) throw invalid('it has a part that is not Name=value');
    if (![...known, ...secrets].some((each) => each === name)) throw invalid('it has a field that no SDK reads');
    if (fields.has(name)) throw invalid(`it says ${name} twice`);
    fields.set(name, part.slice(at + 1));
  }
  return fields;
}

function readGateway(fields: Map<string, string>): GatewayAddress {
  const name = fields.get('GatewayHostName');
  const other = fields.get('GatewayHost');
  if (name !== undefined && other !== undefined && name !== other) {
    throw invalid('GatewayHostName and GatewayHost name different gateways');
  }
  const found = name ?? other;
  if (found === undefined || found === '') {
    throw invalid('it has no GatewayHostName: a client would go straight to the IoT Hub');
  }
  return parseGatewayAddress(found);
}

function readCredential(fields: Map<string, string>): Credential {
  const present = secrets.filter((name) => fields.has(name));
  if (present.length !== 1) {
    throw invalid('it needs exactly one of SharedAccessKey, SharedAccessSignature and x509=true');
  }
  const sharedAccessKey = fields.get('SharedAccessKey');
  if (sharedAccessKey !== undefined) {
    if (!/^[A-Za-z0-9+/]{4,}={0,2}$/.test(sharedAccessKey)) throw invalid('SharedAccessKey is not base64');
    return { kind: 'key', sharedAccessKey, sharedAccessKeyName: fields.get('SharedAccessKeyName') };
  }
  const sharedAccessSignature = fields.get('SharedAccessSignature');
  if (sharedAccessSignature !== undefined) {
    return { kind: 'sas', sharedAccessSignature, expiresAt: sasExpiry(sharedAccessSignature) };
  }
  if (fields.get('x509')?.toLowerCase() !== 'true') throw invalid('x509 can only be true');
  return { kind: 'x509' };
}

function required(fields: Map<string, string>, name: (typeof known)[number]): string {
  const value = fields.get(name);
  if (value === undefined || value === '') throw invalid(`it has no ${name}`);
  return value;
}

function invalid(what: string): GatepostDeviceError {
  return new GatepostDeviceError('document_invalid', `The connection string does not read: ${what}.`);
}
