import type { Message, Sender } from 'rhea';

interface Waiting {
  message: Message;
  tag: Buffer | undefined;
}

/**
 * What waits for a link's credit. rhea would take it too, but then nothing else of the whole session is sent before it
 * (session.js, Outgoing.process).
 */
export class Outbox {
  readonly #link: Sender;
  readonly #waiting: Waiting[] = [];
  #turn: NodeJS.Immediate | undefined;

  constructor(link: Sender) {
    this.#link = link;
    link.on('sendable', () => this.#flush());
  }

  send(message: Message, tag?: Buffer): void {
    this.#waiting.push({ message, tag });
    this.#flush();
  }

  /** One a turn: rhea counts credit down only when it writes. */
  #flush(): void {
    if (this.#turn !== undefined || !this.#link.is_open() || !this.#link.sendable()) return;
    const next = this.#waiting.shift();
    if (next === undefined) return;
    this.#turn = setImmediate(() => {
      this.#turn = undefined;
      this.#flush();
    });
    this.#link.send(next.message, next.tag);
  }
}
