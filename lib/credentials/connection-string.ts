/** A device connection string, taken apart. */
export interface ConnectionString {
  /** The hub. */
  hostName: string;
  deviceId: string;
  moduleId?: string | undefined;
  credential: { sharedAccessKey: string } | { sharedAccessSignature: string } | { x509: true };
  /** `host`, or `host:port` where the gateway serves MQTT on a port of its own. */
  gatewayHostName?: string | undefined;
}

/** The text does not read as a connection string. The message never quotes it: it holds a key. */
export class InvalidConnectionStringError extends Error {
  override readonly name = 'InvalidConnectionStringError';
}

/** Writes the long form in the order that Microsoft's pages use: hub, device, module, credential, gateway. */
export function formatConnectionString(parts: ConnectionString): string {
  const fields = [`HostName=${parts.hostName}`, `DeviceId=${parts.deviceId}`];
  if (parts.moduleId !== undefined) fields.push(`ModuleId=${parts.moduleId}`);
  const { credential } = parts;
  if ('sharedAccessKey' in credential) fields.push(`SharedAccessKey=${credential.sharedAccessKey}`);
  else if ('sharedAccessSignature' in credential) {
    fields.push(`SharedAccessSignature=${credential.sharedAccessSignature}`);
  } else fields.push('x509=true');
  if (parts.gatewayHostName !== undefined) fields.push(`GatewayHostName=${parts.gatewayHostName}`);
  return fields.join(';');
}

const known = [
  'HostName',
  'DeviceId',
  'ModuleId',
  'SharedAccessKey',
  'SharedAccessSignature',
  'x509',
  'GatewayHostName',
  // As one page of Microsoft prints it; no SDK reads it (azure-iot-sdk-node, common/core/src/connection_string.ts).
  'GatewayHost',
] as const;

/**
 * Reads a device connection string as the SDKs do: fields split on `;`, each at its first `=`. Accepts `GatewayHost` for
 * `GatewayHostName`. Throws {@link InvalidConnectionStringError}.
 */
export function parseConnectionString(text: string): ConnectionString {
  const fields = fieldsOf(text);
  const hostName = required(fields, 'HostName');
  const deviceId = required(fields, 'DeviceId');
  const key = fields.get('SharedAccessKey');
  const signature = fields.get('SharedAccessSignature');
  const x509 = fields.get('x509')?.toLowerCase() === 'true';
  const credentials = [
    ...(key === undefined ? [] : [{ sharedAccessKey: key }]),
    ...(signature === undefined ? [] : [{ sharedAccessSignature: signature }]),
    ...(x509 ? [{ x509: true as const }] : []),
  ];
  const [credential] = credentials;
  if (credential === undefined || credentials.length > 1) {
    throw new InvalidConnectionStringError(
      'It needs exactly one of SharedAccessKey, SharedAccessSignature and x509=true.',
    );
  }
  const moduleId = fields.get('ModuleId');
  const gatewayHostName = fields.get('GatewayHostName') ?? fields.get('GatewayHost');
  return {
    hostName,
    deviceId,
    credential,
    ...(moduleId === undefined ? {} : { moduleId }),
    ...(gatewayHostName === undefined ? {} : { gatewayHostName }),
  };
}

function fieldsOf(text: string): Map<string, string> {
  const fields = new Map<string, string>();
  for (const field of text.trim().split(';')) {
    if (field === '') continue;
    const at = field.indexOf('=');
    const name = field.slice(0, Math.max(at, 0));
    if (!known.some((each) => each === name)) {
      throw new InvalidConnectionStringError(`Its fields are ${known.join(', ')}: another one is in it.`);
    }
    if (fields.has(name)) throw new InvalidConnectionStringError(`${name} is in it twice.`);
    const value = field.slice(at + 1);
    if (value !== '') fields.set(name, value);
  }
  return fields;
}

function required(fields: Map<string, string>, name: string): string {
  const value = fields.get(name);
  if (value === undefined) throw new InvalidConnectionStringError(`${name} is missing.`);
  return value;
}
