/** Something that others wait for, again and again. Promise.withResolvers would do, and Node 20 has none. */
export class Latch {
  #open: () => void = () => {};
  #promise: Promise<void> = this.#next();

  /** Resolves at the next `open`. */
  wait(): Promise<void> {
    return this.#promise;
  }

  /** Lets all go on who wait now. */
  open(): void {
    const open = this.#open;
    this.#promise = this.#next();
    open();
  }

  #next(): Promise<void> {
    return new Promise((resolve) => {
      this.#open = resolve;
    });
  }
}
