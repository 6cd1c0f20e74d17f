import { isIPv4 } from 'node:net';
import { z } from 'zod';

/**
 * Narrower than what the hub allows: `+` and `#` are MQTT wildcards, `;` ends a field of a connection string, a leading `?`
 * breaks edgeHub's user-name parser, and a leading `$` belongs to the platform ($edgeAgent, $edgeHub).
 */
const idPattern = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/;
const idFault = 'An id is 1 to 128 letters, digits and . _ : - and begins with a letter or digit.';

/** The id of a device, gateway or module. */
export const idSchema = z.string().regex(idPattern, idFault).meta({ id: 'Id', example: 'press-4' });

const longestHostname = 64;
// RFC 1035 section 2.3.1, lower case as IoT Edge's own check demands (iot-identity-service, is_rfc_1035_valid).
const labelPattern = /^[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** A gateway's host name, exactly as its server certificate and every `GatewayHostName` say it. */
export const hostnameSchema = z
  .string()
  .superRefine((value, context) => {
    const fault = hostnameFault(value);
    if (fault !== undefined) context.addIssue({ code: 'custom', message: fault });
  })
  .meta({ example: 'gateway-1.plant.example.com', description: 'Lower case, at most 64 characters, RFC 1035 labels.' });

/** What is wrong with a host name, or undefined. An IPv4 address passes: see {@link hostnameWarnings}. */
export function hostnameFault(value: string): string | undefined {
  if (isIPv4(value)) return undefined;
  if (/[A-Z]/.test(value)) return 'Write the host name in lower case: it is compared letter by letter.';
  if (value.includes('_')) return 'A host name has no underscore: TLS clients refuse such a name.';
  if (value.length > longestHostname) {
    return `A host name has at most ${longestHostname} characters: it must fit the CN of the gateway's certificate.`;
  }
  if (!value.split('.').every((label) => labelPattern.test(label))) {
    return 'Each label of a host name begins with a letter, goes on with letters, digits and hyphens, and ends without one.';
  }
  return undefined;
}

export interface Warning {
  code: string;
  detail: string;
}

/** What is allowed but will trouble somebody. */
export function hostnameWarnings(hostname: string): Warning[] {
  if (!isIPv4(hostname)) return [];
  const detail =
    'The gateway is named by an IP address: its server certificate needs the address as a subjectAltName of type IP, ' +
    'and clients send no server name. Prefer a DNS name.';
  return [{ code: 'hostname_is_address', detail }];
}

const scopePattern = /^ms-azure-iot-edge:\/\/(.+)-(\d+)$/;

/** The gateway id inside `ms-azure-iot-edge://{id}-{generationId}`; the id may hold hyphens itself. */
export function gatewayIdOfScope(scope: string | undefined): string | undefined {
  return scope === undefined ? undefined : scopePattern.exec(scope)?.[1];
}

/** A string literal of the hub's query language. */
export function sqlText(value: string): string {
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
