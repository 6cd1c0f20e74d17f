/** What {@link withTimeout} throws. */
export class TimeoutError extends Error {
  override readonly name = 'TimeoutError';
}

/**
 * Settles as `promise` does, or throws {@link TimeoutError} after `ms`. The SDK retries for four minutes by itself, and
 * some of its operations never settle: an unanswered getTwin, a close of a half-open connection. With a `signal`, nothing
 * is waited for once it is aborted, and no timer is left that would hold the process.
 */
export async function withTimeout<T>(promise: Promise<T>, ms: number, what: string, signal?: AbortSignal): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  let giveUp = () => {};
  const limit = new Promise<never>((_resolve, reject) => {
    giveUp = () => reject(new Error(`${what} is of no use any more`));
    timer = setTimeout(() => reject(new TimeoutError(`${what} took longer than ${ms / 1000} s`)), ms);
  });
  signal?.addEventListener('abort', giveUp, { once: true });
  try {
    if (signal?.aborted === true) giveUp();
    return await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', giveUp);
  }
}
