import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { selfSigned } from '../../local/kit/certificates.ts';
import { uniqueName } from '../support/certificates.ts';
import { startTestCloud, type TestCloud } from '../support/cloud.ts';

type Line = Record<string, unknown> & { event: string };

const bicep = readFileSync(new URL('../../infra/modules/alerts.bicep', import.meta.url), 'utf8');
const dayMs = 86_400_000;
let test: TestCloud;

beforeAll(async () => {
  test = await startTestCloud();
});
afterAll(() => test.close());

/** A query of the template, by the name of its variable. */
function query(name: string): string {
  const text = new RegExp(`^var ${name} = '''\\n([^']|'(?!''))*'''`, 'm').exec(bicep)?.[0];
  if (text === undefined) throw new Error(`alerts.bicep has no ${name}.`);
  return text;
}

/** Whether a line that the app logged passes the filters of a query, and has every field that the query reads. */
function answers(kql: string, line: Line): boolean {
  const starts = [...kql.matchAll(/Message startswith '([^']+)'/g)].map((found) => String(found[1]));
  const equals = [...kql.matchAll(/tostring\(line\.(\w+)\) == '([^']+)'/g)];
  const read = [...kql.matchAll(/line\.(\w+)/g)].map((found) => String(found[1]));
  return (
    starts.some((start) => JSON.stringify(line).startsWith(start)) &&
    equals.every(([, field, value]) => line[String(field)] === value) &&
    read.every((field) => line[field] !== undefined)
  );
}

/** What the app has logged, as Application Insights gets it: the message behind time, level and category. */
function logged(): Line[] {
  const lines = test.cloud.host.logs().map((line) => /\{"event":.*\}/.exec(line)?.[0]);
  return lines.filter((line) => line !== undefined).map((line) => JSON.parse(line));
}

async function until(isThere: (lines: Line[]) => boolean): Promise<Line[]> {
  for (let look = 0; look < 100; look += 1) {
    if (isThere(logged())) return logged();
    await sleep(100);
  }
  throw new Error(`It was not logged. There is: ${JSON.stringify(logged())}`);
}

async function importRoot(name: string, days: number, withKey: boolean): Promise<void> {
  const notAfter = new Date(Date.now() + days * dayMs + 60_000);
  const { certificate: pem, privateKey: key } = await selfSigned({ commonName: uniqueName(), notAfter });
  const json = { name, pem, ...(withKey ? { key } : {}) };
  expect(await test.outcome('POST', '/api/v1/roots', { json })).toBe('201');
}

const isMeasured = (line: Line) => answers(query('measuredQuery'), line);
const isExpiry = (line: Line) => answers(query('expiryQuery'), line);

describe('the daily look at when roots expire', () => {
  it('says that it looked where there is no root, so that silence is a fault', async () => {
    await test.cloud.host.invoke('measureRootExpiry');
    const lines = await until((all) => all.some(isMeasured));
    expect(lines.filter(isMeasured)).toMatchObject([{ count: 0 }]);
    expect(lines.filter(isExpiry)).toEqual([]);
  });

  it('logs a line for each root and authority, in the words that the alerts look for', async () => {
    await importRoot('late', 300, false);
    await importRoot('soon', 13, true);
    await test.cloud.host.invoke('measureRootExpiry');
    const lines = await until((all) => all.filter(isMeasured).length === 2);
    expect(lines.filter(isExpiry)).toMatchObject([
      { root: 'soon', kind: 'authority', daysLeft: 13 },
      { root: 'late', kind: 'public', daysLeft: 300 },
    ]);
    expect(lines.filter(isMeasured).at(-1)).toMatchObject({ count: 2 });
  });

  it('fails, and does not say that it looked, where the record of the roots cannot be read', async () => {
    await test.cloud.restartApi();
    const before = logged().filter(isMeasured).length;
    test.cloud.faults.add({ target: 'storage', fault: { status: 403 } });
    await test.cloud.host.invoke('measureRootExpiry');
    await expect
      .poll(() => test.cloud.host.logs().join('\n'))
      .toMatch(/Executed 'Functions\.measureRootExpiry' \(Failed/);
    test.cloud.faults.clear();
    expect(logged().filter(isMeasured)).toHaveLength(before);
  });
});

describe('the other alerts', () => {
  it('see a device that fails to join', async () => {
    const token = 'a-token-that-nobody-issued';
    expect((await test.call('POST', '/api/v1/join', { authorization: null, json: { token } })).status).toBeGreaterThan(
      399,
    );
    await until((all) => all.some((line) => answers(query('failedJoinsQuery'), line)));
  });

  it('see a hub that throttles for longer than a caller can wait, and not one call of another fault', async () => {
    test.cloud.faults.add({ target: 'hub', fault: { status: 503 }, times: 10 });
    expect((await test.call('GET', '/api/v1/devices/press-7')).status).toBe(503);
    expect(logged().some((line) => answers(query('throttledQuery'), line))).toBe(false);
    test.cloud.faults.clear();
    test.cloud.faults.add({ target: 'hub', fault: { status: 429, retryAfter: 60 }, times: 10 });
    expect(await test.outcome('GET', '/api/v1/devices/press-7')).toBe('503 upstream_throttled');
    test.cloud.faults.clear();
    await until((all) => all.some((line) => answers(query('throttledQuery'), line)));
  });
});
