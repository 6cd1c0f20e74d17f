import { describe, expect, it } from 'vitest';
import { formatTraceparent, newSpanContext, parentOf, parseTraceparent } from '../../../lib/telemetry/trace-context.ts';

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
const sent = `00-${traceId}-00f067aa0ba902b7-01`;
const ofHost = `00-${traceId}-b7ad6b7169203331-01`;
const ofOther = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00';

describe('a traceparent', () => {
  it('is read and written as W3C Trace Context has it', () => {
    const read = parseTraceparent(sent);
    expect(read).toEqual({ traceId, spanId: '00f067aa0ba902b7', traceFlags: 1, isRemote: true });
    expect(read && formatTraceparent(read)).toBe(sent);
  });

  it('of a later version is read as far as it is known, flags of the future left out', () => {
    expect(parseTraceparent(`cc-${traceId}-00f067aa0ba902b7-ff-what-will-be`)).toMatchObject({
      traceId,
      traceFlags: 1,
    });
  });

  it.each([
    null,
    '',
    'x',
    sent.toUpperCase(),
    `ff${sent.slice(2)}`,
    `${sent}-more`,
    `00-${'0'.repeat(32)}-00f067aa0ba902b7-01`,
    `00-${traceId}-${'0'.repeat(16)}-01`,
    sent.slice(0, -1),
  ])('that is none begins no trace: %s', (header) => {
    expect(parseTraceparent(header)).toBeUndefined();
  });
});

describe('the parent of a request', () => {
  it("is the host's span where that is of the caller's trace, or the caller named none", () => {
    expect(parentOf(ofHost, sent)?.spanId).toBe('b7ad6b7169203331');
    expect(parentOf(ofHost, null)?.spanId).toBe('b7ad6b7169203331');
  });

  it("is the caller's where the host does no tracing or is of another trace", () => {
    expect(parentOf('', sent)?.spanId).toBe('00f067aa0ba902b7');
    expect(parentOf(ofOther, sent)?.traceId).toBe(traceId);
    expect(parentOf(undefined, null)).toBeUndefined();
  });
});

it('a trace that begins here has ids that are valid and its own', () => {
  const [one, other] = [newSpanContext(), newSpanContext()];
  expect(parseTraceparent(formatTraceparent(one))).toMatchObject({ traceId: one.traceId, spanId: one.spanId });
  expect(one.traceId).not.toBe(other.traceId);
});
