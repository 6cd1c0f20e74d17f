import { STATUS_CODES } from 'node:http';
import { type Narrator, withoutSecrets } from './narrator.ts';

interface CallOptions {
  method: 'GET' | 'PUT' | 'POST';
  path: string;
  body?: object;
}

export interface DemoApiOptions {
  base: string;
  /** Of an operator. */
  token: string;
  narrator: Narrator;
  signal: AbortSignal;
}

/** A client of the Gatepost API that says aloud what goes over the wire. */
export class DemoApi {
  readonly #options: DemoApiOptions;

  constructor(options: DemoApiOptions) {
    this.#options = options;
  }

  /** Answers the body of the answer. Throws what the API said where it refused. */
  async call<T>({ method, path, body }: CallOptions): Promise<T> {
    const { base, token, narrator, signal } = this.#options;
    const text = body === undefined ? undefined : JSON.stringify(body);
    narrator.wire('->', `${method} ${path}${text === undefined ? '' : ` ${withoutSecrets(text)}`}`);
    const sent = performance.now();
    const response = await fetch(`${base}${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      ...(text === undefined ? {} : { body: text }),
      signal: AbortSignal.any([signal, AbortSignal.timeout(20_000)]),
    });
    const answer = await response.text();
    const took = `${Math.round(performance.now() - sent)} ms`;
    narrator.wire('<-', `${response.status} ${STATUS_CODES[response.status] ?? ''}, ${took}`, response.ok);
    if (!response.ok)
      throw new Error(`${method} ${path} was refused: ${problem(answer) ?? `status ${response.status}`}`);
    return JSON.parse(answer) as T;
  }
}

function problem(answer: string): string | undefined {
  try {
    const { code, detail } = JSON.parse(answer) as { code?: string; detail?: string };
    return detail === undefined ? code : `${code}: ${detail}`;
  } catch {
    return undefined;
  }
}
