import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { findLeaks, type Secret, type Written } from './search.ts';

/*
 * Runs last, after every other test of the suite (see vitest.config.ts).
 *
 * Not searched, because a secret is meant to stand there: the state of the hub, vault and Entra doubles (they *are* the
 * cloud that keeps the keys), `.gatepost/local.json` (the local contract hands out tokens to tools), the document of a
 * device (owner-only), and the answers of those calls whose purpose is to give out a credential.
 */
const folder = process.env.GATEPOST_EVIDENCE;

function evidence(): { secrets: Secret[]; written: Written[] } {
  const names = folder === undefined ? [] : readdirSync(folder);
  const read = (name: string) => readFileSync(join(folder ?? '', name), 'latin1');
  return {
    secrets: names
      .filter((name) => name.startsWith('secrets.'))
      .flatMap((name) => read(name).split('\n').filter(Boolean))
      .map((line) => JSON.parse(line)),
    written: names.filter((name) => name.startsWith('written.')).map((name) => ({ name, text: read(name) })),
  };
}

describe.skipIf(folder === undefined)('over the whole suite (skipped when only some files are run)', () => {
  const { secrets, written } = evidence();
  const texts = (prefix: string) =>
    written.filter(({ name }) => name.startsWith(`written.${prefix}`)).map(({ text }) => text);

  it.each([
    'device key',
    'key handle',
    'SAS token',
    'access token',
    'join token',
    'private key',
    'PFX',
    'client secret',
  ])('at least one secret of the kind "%s" passed between the parts', (kind) => {
    expect(secrets.filter((secret) => secret.kind === kind).length).toBeGreaterThan(0);
  });

  it('the logs of the app, traces, rows of storage and of the audit log, answers of the API and the output of the device were all recorded', () => {
    // Not toMatch, which prints a text of megabytes where it fails.
    const has = (prefix: string, what: RegExp) => texts(prefix).some((text) => what.test(text));
    expect({
      host: has('host', /"event":/),
      traces: has('traces', /"name":"onboardDevice"/),
      audit: has('storage', /\/devstoreaccount1\/gatepostaudit\d{6}[\s\S]{0,2000}?"action":"device\.onboard"/),
      storage: has('storage', /--- (PUT|POST|MERGE) \/devstoreaccount1/),
      answers: has('answers', /application\/problem\+json/),
      child: has('child', /messages delivered/),
    }).toEqual({ host: true, traces: true, audit: true, storage: true, answers: true, child: true });
  });

  it('no key, token or private key stands in a log, a trace, storage, an output or a problem', () => {
    expect(findLeaks(written, secrets)).toEqual([]);
  });
});
