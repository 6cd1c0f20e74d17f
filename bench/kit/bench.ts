/** What a benchmark came to. */
export interface Outcome {
  /** In one line: the number and what it is a ratio of. */
  summary: string;
  /** Whether it is within the worst that is accepted. */
  good: boolean;
}

export interface BenchOptions {
  /** Just enough to see that it runs. Its numbers mean nothing. */
  smoke: boolean;
  print(text: string): void;
}

export interface Bench {
  name: string;
  /** What it measures, and against what. */
  about: string;
  run(options: BenchOptions): Promise<Outcome>;
}
