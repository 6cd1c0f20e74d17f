/** Permits that are left, and when that was so. They come back evenly over time, up to as many as a minute has. */
export interface Bucket {
  permits: number;
  /** Milliseconds since 1970. */
  at: number;
}

/** What a bucket gives: some permits and what is left, or none and how long it takes until there is one. */
export type Draw = { granted: number; left: Bucket } | { waitMs: number };

const minuteMs = 60_000;

/** Takes up to `wanted` permits, at least one, from a bucket that fills by `perMinute`. No bucket yet is a full one. */
export function draw(bucket: Bucket | undefined, perMinute: number, wanted: number, now: number): Draw {
  const perMs = perMinute / minuteMs;
  // Another instance's clock may be ahead: time does not run backwards here.
  const at = Math.max(now, bucket?.at ?? now);
  const refilled = bucket === undefined ? perMinute : bucket.permits + (at - bucket.at) * perMs;
  const permits = Math.min(perMinute, refilled);
  if (permits < 1) return { waitMs: (1 - permits) / perMs };
  const granted = Math.min(wanted, Math.floor(permits));
  return { granted, left: { permits: permits - granted, at } };
}
