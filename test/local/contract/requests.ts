import { readFileSync } from 'node:fs';
import { request as plainRequest } from 'node:http';
import { request } from 'node:https';
import type { LocalContract } from '../../../local/cloud/contract.ts';

export interface Call {
  url: string;
  method?: string;
  headers?: Record<string, string>;
  body?: string;
  /** Where the connection goes in place of the URL's host. */
  port?: number;
  caFile?: string;
  giveUpMs?: number;
}

export type Outcome =
  | { status: number; headers: Record<string, unknown>; body: string; ms: number }
  | 'cut'
  | 'nothing';

/** One request without retries, and what became of it: an answer, a cut connection, or nothing in the time given. */
export function send(call: Call): Promise<Outcome> {
  const url = new URL(call.url);
  const begun = performance.now();
  const options = {
    host: call.port === undefined ? url.hostname : '127.0.0.1',
    port: call.port ?? url.port,
    servername: url.hostname,
    ...(call.caFile && { ca: readFileSync(call.caFile) }),
    method: call.method ?? 'GET',
    path: `${url.pathname}${url.search}`,
    headers: { host: url.host, ...call.headers, 'content-length': Buffer.byteLength(call.body ?? '') },
    agent: false as const,
  };
  return new Promise((resolve) => {
    const sent = (url.protocol === 'http:' ? plainRequest : request)(options, (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.on('error', () => resolve('cut'));
      answer.on('end', () => {
        const body = Buffer.concat(chunks).toString('utf8');
        resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body, ms: performance.now() - begun });
      });
    });
    sent.on('error', () => resolve('cut'));
    sent.setTimeout(call.giveUpMs ?? 10_000, () => {
      resolve('nothing');
      sent.destroy();
    });
    sent.end(call.body);
  });
}

/** Like {@link send}, but anything except an answer fails. */
export async function answerOf(call: Call): Promise<{ status: number; body: string }> {
  const outcome = await send(call);
  if (typeof outcome === 'string') throw new Error(`${call.method ?? 'GET'} ${call.url}: ${outcome}`);
  return outcome;
}

/** The request for a token of one of the local clients. */
export function tokenRequest(local: LocalContract, name: string, scope: string): Call {
  const client = local.entra.clients.find((candidate) => candidate.name === name);
  const { clientId = '', clientSecret = '' } = client ?? {};
  const form = { grant_type: 'client_credentials', client_id: clientId, client_secret: clientSecret, scope };
  return {
    url: local.entra.tokenUrl,
    method: 'POST',
    caFile: local.hub.caFile,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams(form).toString(),
  };
}

export async function tokenOf(local: LocalContract, name: string, scope: string): Promise<string> {
  const { status, body } = await answerOf(tokenRequest(local, name, scope));
  if (status !== 200) throw new Error(`no token for ${name}: ${status} ${body}`);
  return JSON.parse(body).access_token;
}
