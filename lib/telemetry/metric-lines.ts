/** What was counted or measured under one name and one set of dimensions since it was last told. */
interface Sum {
  metric: string;
  dimensions: Readonly<Record<string, string>>;
  count: number;
  sum: number;
  min: number;
  max: number;
}

/** A sum as a line of the log carries it. */
export type MetricLine = Omit<Sum, 'dimensions'> & Record<string, string | number>;

const everyMs = 60_000;
/** Sets of dimensions are few by design; should they not be, the log is not where it shows. */
const mostSums = 500;

/**
 * Sums of what is measured, told in the log about once a minute: the host takes the log to Application Insights, so that
 * there are metrics without a collector. The first sums after a pause are told at once, since an instance that nobody calls
 * may be gone before the minute is over.
 */
export class MetricLines {
  readonly #now: () => number;
  #sums = new Map<string, Sum>();
  #toldAt = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  add(metric: string, value: number, dimensions: Readonly<Record<string, string>>): void {
    const key = `${metric} ${JSON.stringify(dimensions)}`;
    const sum = this.#sums.get(key);
    if (sum === undefined) {
      if (this.#sums.size >= mostSums) return;
      this.#sums.set(key, { metric, dimensions, count: 1, sum: value, min: value, max: value });
      return;
    }
    sum.count += 1;
    sum.sum += value;
    sum.min = Math.min(sum.min, value);
    sum.max = Math.max(sum.max, value);
  }

  /** What is to be told now: nothing, where it is not a minute since the last time. */
  due(): MetricLine[] {
    return this.#now() - this.#toldAt < everyMs ? [] : this.take();
  }

  take(): MetricLine[] {
    if (this.#sums.size === 0) return [];
    const sums = [...this.#sums.values()];
    this.#sums = new Map();
    this.#toldAt = this.#now();
    return sums.map(({ dimensions, ...sum }) => ({ ...dimensions, ...sum }));
  }
}
