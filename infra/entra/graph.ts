/** An answer of Microsoft Graph that is not a success. */
export class GraphError extends Error {
  override readonly name = 'GraphError';
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export interface GraphOptions {
  /** Such as `https://graph.microsoft.com/v1.0`. */
  url: string;
  token: string;
  wait?: (ms: number) => Promise<void>;
}

export interface GraphRequest {
  body?: object;
  headers?: Record<string, string>;
  /** It is about something that was made a moment ago, which the directory's replicas may not know yet: tried anew. */
  justMade?: boolean;
}

export type Graph = <T = undefined>(method: string, path: string, request?: GraphRequest) => Promise<T>;

const mostTries = 8;
const longestWaitMs = 30_000;

/** Calls to Microsoft Graph. Throttling and short failures are waited out; any other refusal throws {@link GraphError}. */
export function graphClient({ url, token, ...options }: GraphOptions): Graph {
  const wait = options.wait ?? ((ms) => new Promise<void>((resolve) => setTimeout(resolve, ms)));
  return async <T>(method: string, path: string, { body, headers, justMade }: GraphRequest = {}) => {
    for (let tries = 1; ; tries += 1) {
      // Links to the next page are whole addresses.
      const response = await fetch(/^https?:/.test(path) ? sameOrigin(path, url) : `${url}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${token}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      if (response.ok) return (text === '' ? undefined : JSON.parse(text)) as T;
      const passing =
        response.status === 429 || response.status >= 500 || (justMade === true && isLag(response.status, text));
      if (!passing || tries === mostTries) throw errorOf(response.status, text, `${method} ${path}`);
      const asked = Number(response.headers.get('retry-after') ?? Number.NaN) * 1000;
      await wait(Math.min(longestWaitMs, Number.isNaN(asked) ? 500 * 2 ** tries : asked));
    }
  };
}

/** What a replica says of something that it does not know yet. */
function isLag(status: number, text: string): boolean {
  return status === 404 || (status === 400 && /does not reference a valid application|was not found on/.test(text));
}

/** The token goes to Graph and to nobody else. */
function sameOrigin(link: string, url: string): string {
  if (new URL(link).origin !== new URL(url).origin) throw new Error(`Graph sends to another host: ${link}`);
  return link;
}

function errorOf(status: number, text: string, what: string): GraphError {
  let error: { code?: string; message?: string } = {};
  try {
    error = (JSON.parse(text) as { error?: typeof error }).error ?? {};
  } catch {
    // A front end's error has no JSON: the status says enough.
  }
  const { code = 'unknown', message = 'no reason given' } = error;
  return new GraphError(status, code, `Microsoft Graph answered ${status} ${code} to ${what}: ${message}`);
}
