import { createHmac } from 'node:crypto';
import { request } from 'node:https';
import type { Hub } from '../../local/hub/hub.ts';

/** A call on the hub past the product, as somebody in the portal makes it. Answers its status and body. */
export async function asHubOwner(
  hub: Pick<Hub, 'connectionString' | 'hostname' | 'port'>,
  method: string,
  path: string,
  json?: unknown,
): Promise<{ status: number; text: string }> {
  const body = json === undefined ? undefined : Buffer.from(JSON.stringify(json));
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host: '127.0.0.1',
        port: hub.port,
        // The certificate is not what is tested here.
        rejectUnauthorized: false,
        method,
        path: `${path}?api-version=2021-04-12`,
        headers: {
          Host: hub.hostname,
          Authorization: ownerToken(hub),
          ...(method === 'DELETE' ? { 'If-Match': '"*"' } : {}),
          ...(body === undefined ? {} : { 'Content-Type': 'application/json', 'Content-Length': body.byteLength }),
        },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }),
        );
      },
    );
    sent.on('error', reject);
    sent.end(body);
  });
}

function ownerToken(hub: Pick<Hub, 'connectionString' | 'hostname'>): string {
  const key = /SharedAccessKey=(.*)$/.exec(hub.connectionString)?.[1] ?? '';
  const expiry = Math.floor(Date.now() / 1000) + 600;
  const mac = createHmac('sha256', Buffer.from(key, 'base64')).update(`${hub.hostname}\n${expiry}`).digest('base64');
  return `SharedAccessSignature sr=${hub.hostname}&sig=${encodeURIComponent(mac)}&se=${expiry}&skn=iothubowner`;
}
