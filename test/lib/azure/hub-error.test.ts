import { describe, expect, it } from 'vitest';
import { HubError, readRefusal, toGatepostError } from '../../../lib/azure/hub-error.ts';

describe('an error body of the hub', () => {
  it('of shape A gives its code and tracking id', () => {
    const body = {
      Message: 'ErrorCode:DeviceAlreadyExists;Conflict',
      ExceptionMessage: 'Tracking ID:a1b2c3d4-G:11-TimeStamp:07/16/2016 00:12:41',
    };
    expect(readRefusal(JSON.stringify(body))).toMatchObject({ code: 'DeviceAlreadyExists', trackingId: 'a1b2c3d4' });
  });

  it('of shape B gives its number', () => {
    const inner = { errorCode: 404103, trackingId: 'ABC', message: 'Not online', info: {}, timestampUtc: '' };
    const body = { Message: JSON.stringify(inner), ExceptionMessage: '' };
    expect(readRefusal(JSON.stringify(body))).toEqual({ code: '404103', trackingId: 'ABC', message: 'Not online' });
  });

  it.each(['', '<html>502 Bad Gateway</html>', '[]', 'null', '{"a":1}', '"text"'])(
    'of shape C (%j) gives nothing',
    (text) => {
      expect(readRefusal(text)).toEqual({ code: undefined, message: undefined, trackingId: undefined });
    },
  );
});

describe('a failure of the hub', () => {
  const problem = (details: Partial<ConstructorParameters<typeof HubError>[0]>) => {
    const { code, status, retryAfterSeconds } = toGatepostError(
      new HubError({ method: 'GET', path: '/x', ...details }),
    );
    return [code, status, retryAfterSeconds];
  };

  it.each([
    [{ failure: 'timeout' }, ['upstream_timeout', 504, 5]],
    [{ status: 504 }, ['upstream_timeout', 504, 5]],
    [{ status: 429, retryAfterSeconds: 30 }, ['upstream_throttled', 503, 30]],
    [{ status: 500 }, ['upstream_unavailable', 503, 5]],
    [{ status: 503, retryAfterSeconds: 7 }, ['upstream_unavailable', 503, 7]],
    [{ failure: 'ECONNRESET' }, ['upstream_unavailable', 503, 5]],
    [{ status: 404, code: 'IotHubNotFound' }, ['upstream_unavailable', 503, 5]],
    [{ status: 401 }, ['upstream_refused', 502, undefined]],
    [{ status: 403 }, ['upstream_refused', 502, undefined]],
    [{ status: 403, code: '403002' }, ['quota_exceeded', 503, 3600]],
    [{ status: 413, code: 'TooManyDevices' }, ['quota_exceeded', 503, 3600]],
    [{ status: 400, code: 'ArgumentInvalid' }, ['upstream_refused', 502, undefined]],
    [{ status: 412 }, ['precondition_failed', 412, undefined]],
  ])('%j becomes %j', (details, expected) => {
    expect(problem(details)).toEqual(expected);
  });
});
