import { Agent, request } from 'node:https';
import { type Entra, type EntraOptions, startEntra } from '../../../local/entra/entra.ts';
import { developmentCa, issue } from '../../../local/kit/certificates.ts';
import { FaultSwitch } from '../../../local/kit/faults.ts';

export interface TestEntra {
  entra: Entra;
  faults: FaultSwitch;
  ca: string;
  tls: { cert: string; key: string };
}

/** An Entra ID double with a CA of its own. `tls` can be handed on, to start it again as the same host. */
export async function testEntra(options: Partial<EntraOptions> = {}): Promise<TestEntra> {
  const ca = await developmentCa(undefined);
  const server = await issue(ca, { commonName: 'localhost', names: ['localhost', '127.0.0.1'] });
  const faults = new FaultSwitch();
  const tls = { cert: server.chain, key: server.privateKey };
  return { entra: await startEntra({ faults, tls, ...options }), faults, ca: ca.certificate, tls };
}

export interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
  json(): Record<string, unknown>;
}

/** One request over TLS, trusting only `ca`. */
export function call(
  url: string,
  ca: string,
  options: { method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(
      url,
      { method: options.method ?? 'GET', headers: options.headers ?? {}, agent: new Agent({ ca, keepAlive: false }) },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => {
          const json = () => JSON.parse(text) as Record<string, unknown>;
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text, json });
        });
      },
    );
    sent.on('error', reject);
    sent.end(options.body);
  });
}

export function form(fields: Record<string, string>): {
  method: string;
  headers: Record<string, string>;
  body: string;
} {
  return {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams(fields).toString(),
  };
}

export function clientNamed(entra: Entra, name: string): Entra['clients'][number] {
  const client = entra.clients.find((known) => known.name === name);
  if (client === undefined) throw new Error(`The tenant has no client ${name}.`);
  return client;
}
