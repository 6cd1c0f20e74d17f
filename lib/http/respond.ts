import { noneMatchHits } from './conditional.ts';
import type { HttpAnswer } from './problem.ts';
import type { Answer } from './route.ts';

/** The answer of a route as the host takes it; 304 where a read has what the caller has. */
export function respond(answer: Answer, method: string, ifNoneMatch: string | undefined): HttpAnswer {
  const headers: Record<string, string> = { 'cache-control': 'no-store', ...answer.headers };
  if (answer.noStore === true) headers['cache-control'] = 'no-store';
  const etag = headers.etag;
  const isRead = method === 'GET' || method === 'HEAD';
  if (isRead && answer.status === 200 && etag !== undefined && noneMatchHits(ifNoneMatch, etag)) {
    delete headers['content-type'];
    return { status: 304, headers };
  }
  if (answer.json !== undefined) {
    headers['content-type'] ??= 'application/json; charset=utf-8';
    return { status: answer.status, headers, body: JSON.stringify(answer.json) };
  }
  return { status: answer.status, headers, ...(answer.body === undefined ? {} : { body: answer.body }) };
}
