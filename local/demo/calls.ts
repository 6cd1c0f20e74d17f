import type { FaultSwitch, FaultTarget } from '../kit/faults.ts';
import type { Narrator } from './narrator.ts';

const names: Record<FaultTarget, string> = {
  hub: 'IoT Hub',
  vault: 'Key Vault',
  entra: 'Entra ID',
  storage: 'Storage',
  gateway: 'gateway',
};

/** Reads from the cloud which requests its parts served since the last look, and says so. */
export class CallWatch {
  readonly #faults: FaultSwitch;
  readonly #narrator: Narrator;
  #seen: Record<string, Record<string, number>>;

  constructor(faults: FaultSwitch, narrator: Narrator) {
    this.#faults = faults;
    this.#narrator = narrator;
    this.#seen = faults.calls();
  }

  /** What was served before counts as seen. */
  skip(): void {
    this.#seen = this.#faults.calls();
  }

  tell(targets: FaultTarget[]): void {
    const calls = this.#faults.calls();
    for (const target of targets) {
      const news = Object.entries(calls[target])
        .map(([call, count]) => ({ call, count: count - (this.#seen[target]?.[call] ?? 0) }))
        .filter(({ count }) => count > 0)
        .map(({ call, count }) => (count === 1 ? call : `${call} (${count}x)`));
      if (news.length > 0) this.#narrator.wire('~>', `${names[target]}: ${news.join(', ')}`);
    }
    this.#seen = calls;
  }
}
