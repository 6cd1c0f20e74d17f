import { availableParallelism, cpus } from 'node:os';

/** Cores, processor and Node version: what a number means nothing without. */
export function machine(): string {
  const model = cpus()[0]?.model.trim() ?? 'unknown processor';
  return `${availableParallelism()} cores, ${model}, Node ${process.versions.node}, ${process.platform} ${process.arch}`;
}
