/** A connection, as far as others may end it. */
export interface ClientConnection {
  /** Ends it; the backend has seen the device go when this returns. */
  drop(): void;
}

/**
 * Who is connected to a hub or a gateway, over whichever protocol: each id once, and no more than so many
 * (Azure/iotedge, edge-hub core ConnectionManager.cs).
 */
export class ConnectedClients {
  readonly #connections = new Map<string, ClientConnection>();
  readonly #most: number;

  /** @param most above this number there is no room. Default: no limit. */
  constructor(most = Number.POSITIVE_INFINITY) {
    this.#most = most;
  }

  /** `{deviceId}` or `{deviceId}/{moduleId}` of each. */
  ids(): string[] {
    return [...this.#connections.keys()];
  }

  /** One that is connected already may always connect again. */
  hasRoomFor(id: string): boolean {
    return this.#connections.has(id) || this.#connections.size < this.#most;
  }

  /** The connection that was there under this id has to go. */
  enter(id: string, connection: ClientConnection): void {
    const before = this.#connections.get(id);
    if (before !== connection) before?.drop();
    this.#connections.set(id, connection);
  }

  /** Does nothing where another connection has taken the id over. */
  leave(id: string, connection: ClientConnection): void {
    if (this.#connections.get(id) === connection) this.#connections.delete(id);
  }

  /** Cuts the connection of this id, if there is one. */
  drop(id: string): void {
    this.#connections.get(id)?.drop();
  }
}
