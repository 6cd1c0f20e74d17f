import { describe, expect, it } from 'vitest';
import { createLog, describeError, type LogFields } from '../../lib/telemetry.ts';

function written(fields: Record<string, unknown>): Record<string, unknown> {
  const lines: string[] = [];
  createLog((_level, line) => lines.push(line), { route: 'getThing' }).info('event', fields as LogFields);
  return JSON.parse(lines[0] ?? '');
}

describe('a log line', () => {
  it('carries its event and the fields that are allowed', () => {
    expect(written({ deviceId: 'leaf-1', status: 200 })).toEqual({
      event: 'event',
      route: 'getThing',
      deviceId: 'leaf-1',
      status: 200,
    });
  });

  it('drops fields that nobody allowed, and values that are no text or number', () => {
    expect(written({ authorization: 'Bearer abc', deviceId: { key: 'secret' } })).toEqual({
      event: 'event',
      route: 'getThing',
    });
  });

  it.each([
    'HostName=a;SharedAccessKey=abc',
    'SharedAccessSignature sr=a&sig=b',
    'https://a/?sv=1&sig=abc',
    '-----BEGIN PRIVATE KEY-----',
    'eyJhbGciOiJub25lIn0.e30.',
    'Bearer abc',
    'AccountKey=abc',
  ])('shows nothing of a value that looks like a credential: %s', (value) => {
    expect(written({ deviceId: value })).toMatchObject({ deviceId: '[redacted]' });
  });

  it('cuts what is too long', () => {
    expect(written({ deviceId: 'x'.repeat(1000) }).deviceId).toHaveLength(256);
  });
});

describe('an unforeseen error', () => {
  it('is told by name, code and place, never by its message', () => {
    const told = describeError(Object.assign(new TypeError('SharedAccessKey=abc'), { code: 'E_X' }));
    expect(told).toMatchObject({ errorName: 'TypeError', errorCode: 'E_X' });
    expect(told.errorAt).toContain('telemetry.test');
    expect(JSON.stringify(told)).not.toContain('abc');
    expect(describeError('SharedAccessKey=abc')).toEqual({ errorName: 'string' });
  });
});
