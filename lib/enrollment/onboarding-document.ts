import { z } from 'zod';
import type { IssuedCredential } from '../credentials/issue.ts';
import type { KnownGateway } from '../identity/gateway-cache.ts';
import { portsSchema } from '../identity/gateway-record.ts';
import type { TrustService } from '../trust/service.ts';

/** The roots that a device must trust now. */
export const trustSchema = z.object({
  sequence: z.int(),
  refreshHintSeconds: z.int(),
  roots: z.array(z.object({ sha256: z.string(), subject: z.string(), notAfter: z.string(), pem: z.string() })),
});

export type Trust = z.output<typeof trustSchema>;

/** The bundle as a document carries it. A stale one is better than none: the device asks again soon. */
export async function currentTrust(service: Pick<TrustService, 'current'>): Promise<Trust> {
  const { bundle } = await service.current();
  return { ...bundle, roots: [...bundle.roots] };
}

const example = {
  device: { id: 'press-4', moduleId: null },
  hub: { hostname: 'plant.azure-devices.net' },
  gateway: {
    id: 'gateway-1',
    hostname: 'gateway-1.plant.example.com',
    ports: { mqtt: 8883, amqp: 5671, websocket: 443 },
  },
  connectionString:
    'HostName=plant.azure-devices.net;DeviceId=press-4;SharedAccessKey=...;GatewayHostName=gateway-1.plant.example.com',
  expiresAt: null,
  trust: {
    sequence: 7,
    refreshHintSeconds: 3600,
    roots: [
      {
        sha256: '5f1c0d3e2b4a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0',
        subject: 'CN=Plant root 2026',
        notAfter: '2036-01-01T00:00:00.000Z',
        pem: '-----BEGIN CERTIFICATE-----\nMIIB...\n-----END CERTIFICATE-----\n',
      },
    ],
  },
};

/** Everything that a device needs to talk through its gateway. */
export const onboardingDocumentSchema = z
  .object({
    device: z.object({ id: z.string(), moduleId: z.string().nullable() }),
    hub: z.object({ hostname: z.string() }),
    gateway: z.object({ id: z.string(), hostname: z.string(), ports: portsSchema }),
    connectionString: z.string().meta({ description: 'Secret.' }),
    expiresAt: z.string().nullable().meta({ description: 'When the SAS token in it expires; null for the others.' }),
    trust: trustSchema,
  })
  .meta({ id: 'OnboardingDocument', examples: [example] });

export type OnboardingDocument = z.output<typeof onboardingDocumentSchema>;

export interface DocumentParts {
  hubHostname: string;
  deviceId: string;
  moduleId: string | null;
  gateway: KnownGateway;
  credential: IssuedCredential;
  trust: Trust;
}

export function onboardingDocument(parts: DocumentParts): OnboardingDocument {
  const { hubHostname, deviceId, moduleId, gateway, credential, trust } = parts;
  return {
    device: { id: deviceId, moduleId },
    hub: { hostname: hubHostname },
    gateway: { id: gateway.id, hostname: gateway.hostname, ports: gateway.ports },
    connectionString: credential.connectionString,
    expiresAt: credential.expiresAt,
    trust,
  };
}
