import { createHash, randomUUID } from 'node:crypto';
import { z } from 'zod';
import { type CredentialKind, credentialKindSchema } from '../credentials/issue.ts';
import { GatepostError } from '../errors.ts';
import { Redacted } from '../redacted.ts';
import { type Entity, removeAll, type Table } from '../table.ts';

/** What a join token lets its bearer fetch, once. */
export interface Grant {
  hubHostname: string;
  deviceId: string;
  /** Of the device when the token was issued: a device that was deleted and made anew is another one. */
  generationId: string;
  moduleId: string | null;
  credential: CredentialKind;
}

export interface JoinTokens {
  /** @param ttlSeconds 60 to 86,400 */
  issue(grant: Grant, ttlSeconds: number): Promise<{ token: Redacted; expiresAt: string }>;
  /** What the token grants; throws `join_token_invalid`, which never tells why. */
  look(token: string): Promise<HeldGrant>;
  /** Uses the token up; throws `join_token_invalid` where another call was first. */
  consume(held: HeldGrant): Promise<void>;
  /** Deletes up to `limit` tokens, used or not, that expired before an instant. Answers how many. */
  purge(before: Date, limit: number): Promise<number>;
}

export interface HeldGrant extends Grant {
  entity: Entity;
  etag: string;
}

export interface JoinTokensOptions {
  table: Table;
  clock: () => Date;
  randomBytes: (size: number) => Buffer;
}

export const defaultJoinTtlSeconds = 600;
export const joinTtlSchema = z
  .int()
  .min(60)
  .max(86_400)
  .meta({ description: `Default ${defaultJoinTtlSeconds}.` });

const tokenBytes = 32;
const tokenPattern = /^[A-Za-z0-9_-]{43}$/;
const mostTries = 3;

const storedSchema = z.object({
  hubHostname: z.string(),
  deviceId: z.string(),
  generationId: z.string(),
  moduleId: z.string().optional(),
  credential: credentialKindSchema,
  expiresAt: z.coerce.date(),
  redemption: z.string().optional(),
});

/**
 * Join tokens in a table, under the SHA-256 of the token: who reads the table cannot join. 256 random bits need no salt,
 * and looking one up by its hash leaves nothing to be timed.
 */
export function joinTokens({ table, clock, randomBytes }: JoinTokensOptions): JoinTokens {
  return {
    async issue(grant, ttlSeconds) {
      const token = randomBytes(tokenBytes).toString('base64url');
      const expiresAt = new Date(clock().getTime() + ttlSeconds * 1000);
      const { moduleId, ...kept } = grant;
      const entity: Entity = { ...keysOf(token), ...kept, expiresAt, ...(moduleId === null ? {} : { moduleId }) };
      await table.insert(entity);
      return { token: new Redacted(token), expiresAt: expiresAt.toISOString() };
    },

    async look(token) {
      // Whatever its form, a token costs one look, so that a malformed one is told apart by nothing.
      const keys = keysOf(token);
      const found = await table.get(keys.partitionKey, keys.rowKey);
      const stored = found === undefined ? undefined : storedSchema.safeParse(found.entity).data;
      if (!tokenPattern.test(token)) throw joinTokenInvalid('malformed');
      if (found === undefined || stored === undefined) throw joinTokenInvalid('unknown');
      if (stored.redemption !== undefined) throw joinTokenInvalid('used');
      if (stored.expiresAt <= clock()) throw joinTokenInvalid('expired');
      const { hubHostname, deviceId, generationId, moduleId, credential } = stored;
      const grant = { hubHostname, deviceId, generationId, moduleId: moduleId ?? null, credential };
      return { ...grant, entity: found.entity, etag: found.etag };
    },

    async consume({ entity, etag }) {
      // Names this attempt, so that a write whose answer was lost is told from another's.
      const redemption = randomUUID();
      const used: Entity = { ...entity, redemption, redeemedAt: clock() };
      let current = etag;
      for (let tries = 0; tries < mostTries; tries += 1) {
        const fault = await table.replace(used, current).then(
          (answer) => (answer === 'changed' ? ('changed' as const) : undefined),
          (error: unknown) => error,
        );
        if (fault === undefined) return;
        const now = await table.get(entity.partitionKey, entity.rowKey);
        if (now?.entity.redemption === redemption) return;
        if (now === undefined || now.entity.redemption !== undefined) throw joinTokenInvalid('used_meanwhile');
        if (fault !== 'changed') throw fault;
        current = now.etag;
      }
      throw joinTokenInvalid('used_meanwhile');
    },

    async purge(before, limit) {
      const old = await table.before('expiresAt', before, limit);
      return removeAll(table, old);
    },
  };
}

/** Wrong, used, expired and foreign tokens are told apart for nobody who tries: the reason is for the log. */
export function joinTokenInvalid(reason: string): GatepostError {
  return new GatepostError('join_token_invalid', 'Ask the operator for a new join token.', { reason });
}

/** Two digits of the hash spread the tokens over 256 partitions. */
function keysOf(token: string): { partitionKey: string; rowKey: string } {
  const rowKey = createHash('sha256').update(token).digest('hex');
  return { partitionKey: rowKey.slice(0, 2), rowKey };
}
