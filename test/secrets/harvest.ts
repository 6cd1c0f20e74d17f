import type { Secret } from './search.ts';

/** Azurite's one account has a published key (Azurite README, "Default Storage Account"). */
const published = ['Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoMGGw=='];

const secretFields: Record<string, string> = {
  primaryKey: 'device key',
  secondaryKey: 'device key',
  access_token: 'access token',
  token: 'join token',
  keyHandle: 'key handle',
  sasToken: 'SAS token',
  clientSecret: 'client secret',
  client_secret: 'client secret',
  password: 'PFX password',
  pwd: 'PFX password',
  pfx: 'PFX',
};

const secretShapes: [kind: string, shape: RegExp][] = [
  ['private key', /-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----[\s\S]+?-----END (?:[A-Z]+ )?PRIVATE KEY-----/g],
  ['device key', /(?<=SharedAccessKey=)[\w+/]{22,}={0,2}/g],
  ['SAS token', /SharedAccessSignature sr=[^"\\;\s]+/g],
  ['access token', /eyJ[\w-]{10,}\.[\w-]+\.[\w-]{20,}/g],
];

/** Every secret in a message between the parts: an answer of a double or of the API, or what was sent to one. */
export function secretsIn(text: string): Secret[] {
  const found = inFields(parseJson(text));
  // In JSON the line ends of a PEM are escaped.
  for (const source of new Set([text, text.replaceAll('\\n', '\n')])) {
    for (const [kind, shape] of secretShapes) {
      for (const [value] of source.matchAll(shape)) found.push({ kind, value });
    }
  }
  const form = /(?:^|&)client_secret=([^&\s]+)/.exec(text)?.[1];
  if (form !== undefined) found.push({ kind: 'client secret', value: decodeURIComponent(form) });
  return found.filter(({ value }) => isRandom(value) && !published.includes(value));
}

function inFields(value: unknown): Secret[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, content]) => {
    const kind = secretFields[name];
    return kind !== undefined && typeof content === 'string' ? [{ kind, value: content }] : inFields(content);
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Words that a test made up, such as `not-a-token`, are no secrets, and logs may hold them. */
function isRandom(value: string): boolean {
  return value.length >= 16 && new Set(value).size >= 12;
}
