import { request } from 'node:https';
import { makeSasToken } from '../gateway/sas-token.ts';

export interface HubAccess {
  hostname: string;
  port: number;
  /** Of a policy that may write the registry. */
  connectionString: string;
  /** PEM. */
  ca: string;
}

export interface HubAnswer {
  status: number;
  body: unknown;
}

const apiVersion = '2021-04-12';

/** One call to the hub's service API, signed with the policy of its connection string unless `headers` say otherwise. */
export function callHub(
  hub: HubAccess,
  method: string,
  path: string,
  body?: object,
  headers: Record<string, string> = {},
): Promise<HubAnswer> {
  const text = body === undefined ? '' : JSON.stringify(body);
  const options = {
    host: '127.0.0.1',
    port: hub.port,
    servername: hub.hostname,
    ca: hub.ca,
    method,
    path: `${path}?api-version=${apiVersion}`,
    headers: {
      host: hub.hostname,
      authorization: policyToken(hub),
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
      ...headers,
    },
  };
  return new Promise((resolve, reject) => {
    const sent = request(options, (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.on('error', reject);
      answer.on('end', () => {
        const received = Buffer.concat(chunks).toString('utf8');
        resolve({ status: answer.statusCode ?? 0, body: received === '' ? {} : JSON.parse(received) });
      });
    });
    sent.once('error', reject);
    sent.end(text);
  });
}

function policyToken(hub: HubAccess): string {
  const field = (name: string) => new RegExp(`(?:^|;)${name}=([^;]+)`).exec(hub.connectionString)?.[1] ?? '';
  const expiry = Math.floor(Date.now() / 1000) + 300;
  return makeSasToken(hub.hostname, field('SharedAccessKey'), expiry, field('SharedAccessKeyName'));
}
