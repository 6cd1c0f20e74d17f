import { DeviceError, type Identity } from './identity.ts';

export interface MethodAnswer {
  status: number;
  payload: unknown;
}

interface Pending {
  resolve(answer: MethodAnswer): void;
  reject(error: Error): void;
  timer: NodeJS.Timeout;
}

/** The direct methods that were called on one connected device and have not been answered yet. */
export class MethodCalls {
  readonly #of: Identity;
  readonly #pending = new Map<string, Pending>();

  constructor(of: Identity) {
    this.#of = of;
  }

  /**
   * Waits for the answer to a call that `send` puts on its way.
   *
   * @param send answers false where the device does not listen for methods.
   * @throws DeviceError 404 where it does not, 504 after `timeoutMs`.
   */
  call(requestId: string, timeoutMs: number, send: () => boolean): Promise<MethodAnswer> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(requestId);
        const who = this.#of.deviceId;
        reject(new DeviceError(504, 504101, `Timed out waiting for the response from device ${who}.`));
      }, timeoutMs);
      this.#pending.set(requestId, { resolve, reject, timer });
      if (send()) return;
      clearTimeout(timer);
      this.#pending.delete(requestId);
      reject(this.#notOnline());
    });
  }

  /** A device's answer; one that comes too late is dropped. */
  answer(requestId: string, status: number, body: Buffer): void {
    const pending = this.#pending.get(requestId);
    if (pending === undefined) return;
    this.#pending.delete(requestId);
    clearTimeout(pending.timer);
    try {
      pending.resolve({ status, payload: body.length === 0 ? null : JSON.parse(body.toString('utf8')) });
    } catch {
      pending.reject(new DeviceError(502, 502002, 'The device answered the method with something that is not JSON.'));
    }
  }

  /** The device is gone. */
  end(): void {
    for (const { timer, reject } of this.#pending.values()) {
      clearTimeout(timer);
      reject(this.#notOnline());
    }
    this.#pending.clear();
  }

  #notOnline(): DeviceError {
    const message = `The operation failed because the requested device isn't online or hasn't registered the direct method callback. To learn more, see https://aka.ms/iothub404103 (${this.#of.deviceId})`;
    return new DeviceError(404, 404103, message);
  }
}
