import type { IncomingMessage } from 'node:http';
import { reasonOf, systemCode } from '../../errors.ts';

export interface Answer {
  status: number;
  /** The `Date` header, by which a clock can be compared: RFC 9110, section 6.6.1. */
  date: Date | undefined;
  body: Buffer;
}

export interface Question {
  api: URL;
  path: string;
  authorization?: string | undefined;
  /**
   * True asks without checking the server's certificate, which cannot be checked by a clock that is wrong. Then nothing
   * that is secret may be sent, and nothing believed.
   */
  unproven?: boolean;
  timeoutMs: number;
}

/** The API's answer, or why there is none. */
export type Asked = { answer: Answer } | { failed: string; code: string | undefined };

const maxBodyBytes = 1024 * 1024;

/** One GET, without any retry: a doctor tells what it meets. */
export async function askApi(question: Question): Promise<Asked> {
  try {
    return { answer: await get(question) };
  } catch (error) {
    const code = systemCode(error);
    return { failed: [code, reasonOf(error)].filter(Boolean).join(': '), code };
  }
}

async function get({ api, path, authorization, unproven, timeoutMs }: Question): Promise<Answer> {
  const url = new URL(`${api.pathname.replace(/\/$/, '')}${path}`, api);
  if (unproven === true && authorization !== undefined) throw new Error('A token goes to a proven server only.');
  const { request } = url.protocol === 'https:' ? await import('node:https') : await import('node:http');
  const headers = {
    accept: 'application/json',
    'user-agent': 'gatepost-device',
    ...(authorization === undefined ? {} : { authorization }),
  };
  return new Promise((resolve, reject) => {
    const options = { headers, agent: false as const, ...(unproven === true ? { rejectUnauthorized: false } : {}) };
    const sent = request(url, options, (response) => {
      collect(response).then((body) => resolve({ ...headOf(response), body }), reject);
    });
    const timer = setTimeout(() => sent.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)), timeoutMs);
    sent.on('close', () => clearTimeout(timer));
    sent.on('error', reject);
    sent.end();
  });
}

function headOf(response: IncomingMessage): Omit<Answer, 'body'> {
  const date = new Date(response.headers.date ?? '');
  return { status: response.statusCode ?? 0, date: Number.isNaN(date.getTime()) ? undefined : date };
}

async function collect(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBodyBytes) throw new Error(`the answer is larger than ${maxBodyBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
