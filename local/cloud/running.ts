/** Something that runs until it is closed. */
export interface Running {
  close(): Promise<void>;
}

/** Waits for a part to start and sees to it that it is closed with the rest, also when the rest has ended meanwhile. */
export async function keep<T extends Running>(cleanup: AsyncDisposableStack, starting: Promise<T>): Promise<T> {
  const started = await starting;
  if (cleanup.disposed) {
    await started.close();
    throw new Error('The local cloud was closed while it was starting.');
  }
  cleanup.defer(() => started.close());
  return started;
}
