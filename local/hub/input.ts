import { HubError } from './errors.ts';

/** A JSON object as a request brings it. */
export type Given = Record<string, unknown>;

/** What an `If-Match` header asks for: nothing, anything (`*`), or one ETag. */
export type Condition = undefined | '*' | { etag: string };

// learn.microsoft.com, *Understand the identity registry*, with `:` and `;` of the Event Grid schema.
const idPattern = /^[A-Za-z0-9\-.+%_#*?!(),:=@$';]{1,128}$/;

/** Throws 412 where the ETag is another than the one that is asked for. */
export function checkCondition(condition: '*' | { etag: string }, etag: string): void {
  if (condition === '*' || condition.etag === etag) return;
  throw new HubError('PreconditionFailed', `Precondition failed: the ETag is ${etag}.`);
}

/** Checks the id in the address, and that the body, where it names one, names the same. */
export function checkId(id: string, inBody: unknown, what: string): void {
  if (!idPattern.test(id)) throw new HubError('ArgumentInvalid', `The ${what} id '${id}' is not valid.`);
  if (inBody === undefined || inBody === id) return;
  throw new HubError('ArgumentInvalid', `The ${what} id of the body is not that of the address.`);
}

export function readIotEdge(capabilities: unknown): boolean {
  const iotEdge = capabilities === undefined || capabilities === null ? false : readObject(capabilities).iotEdge;
  if (iotEdge !== undefined && typeof iotEdge !== 'boolean') {
    throw new HubError('ArgumentInvalid', 'capabilities.iotEdge is true or false.');
  }
  return iotEdge ?? false;
}

/** The desired properties that an item of a bulk request brings. */
export function readDesired(given: Given): object {
  const properties = given.properties === undefined || given.properties === null ? {} : readObject(given.properties);
  return { desired: properties.desired };
}

export function readText(value: unknown, name: string): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value !== 'string') throw new HubError('ArgumentInvalid', `${name} is no text.`);
  return value;
}

export function readObject(value: unknown): Given {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new HubError('DeserializationError', 'The body is no JSON object.');
  }
  return value as Given;
}
