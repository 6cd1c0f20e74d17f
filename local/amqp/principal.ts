import type { X509Certificate } from 'node:crypto';
import type { Message } from 'rhea';
import { type Credentials, clientIdOf, type Identity } from '../mqtt/identity.ts';
import { putTokenAnswer, readPutToken } from './cbs.ts';
import { AmqpError, notAllowed } from './errors.ts';
import type { AmqpHeadOptions } from './head.ts';
import type { Outbox } from './outbox.ts';
import type { PlainLogin, SaslServer } from './sasl.ts';

type Options = Pick<AmqpHeadOptions, 'hubHostname' | 'refuse' | 'audienceOf' | 'renewed'>;

/**
 * Who the client of one connection is. There are three ways to say it, and the first that applies shuts out the others: a SASL
 * PLAIN login; a TLS client certificate, of a client that does without SASL; tokens for one or several devices on `$cbs`
 * (Azure/iotedge, edge-hub Amqp AmqpRuntimeProvider.cs, OnConnectionOpening; Azure/azure-amqp, SaslTransport.cs, where
 * SASL ANONYMOUS makes the certificate forgotten).
 */
export class Principal implements SaslServer {
  readonly #options: Options;
  readonly #tokens = new Map<string, string>();
  readonly #authenticated = new Set<string>();
  #certificates: X509Certificate[];
  #login: string | undefined;
  #answers: Outbox | undefined;

  constructor(options: Options, certificates: X509Certificate[]) {
    this.#options = options;
    this.#certificates = certificates;
  }

  anonymous(): void {
    this.#certificates = [];
  }

  /** EdgeSaslPlainAuthenticator.cs: what is refused here never gets to links. */
  async plain({ identity, hub, password }: PlainLogin): Promise<void> {
    this.#certificates = [];
    const name = this.#options.hubHostname.toLowerCase();
    if (!name.startsWith(`${hub.toLowerCase()}.`)) {
      throw new Error(`Identity contains an invalid IotHubHostName ${hub}.`);
    }
    const reason = await this.#options.refuse({ identity, token: password, certificates: [], again: false });
    if (reason !== undefined) throw new Error('Authentication failed.');
    this.#login = clientIdOf(identity);
    this.#options.renewed({ identity, token: password, certificates: [], again: false });
  }

  /** Whether the client may open links of `identity`. */
  async is(identity: Identity): Promise<boolean> {
    const id = clientIdOf(identity);
    if (this.#login !== undefined) return this.#login === id;
    if (this.#authenticated.has(id)) return true;
    const token = this.#tokens.get(id);
    if (this.#certificates.length === 0 && token === undefined) return false;
    const credentials: Credentials = { identity, token, certificates: this.#certificates, again: false };
    if ((await this.#options.refuse(credentials)) !== undefined) return false;
    this.#options.renewed(credentials);
    // A certificate is looked at for every link, a token once.
    if (token !== undefined) this.#authenticated.add(id);
    return true;
  }

  /** @param answers where answers go; absent for the link that requests come on. */
  openCbs(answers: Outbox | undefined): void {
    if (this.#login !== undefined || this.#certificates.length > 0) {
      throw notAllowed('CbsNode not found in the AMQP connection');
    }
    this.#answers = answers ?? this.#answers;
  }

  /** Keeps a token. Of a device that is connected it counts from the next time that the device is looked at. */
  putToken(request: Message, status?: number): void {
    const answer = (code: number, description: string) =>
      this.#answers?.send(putTokenAnswer(request, { status: code, description }));
    if (status !== undefined) {
      answer(status, `status ${status}`);
      return;
    }
    try {
      const { id, identity, token } = readPutToken(request, (text) => this.#options.audienceOf(text));
      this.#tokens.set(id, token);
      if (this.#authenticated.has(id)) this.#options.renewed({ identity, token, certificates: [], again: false });
      answer(200, 'OK');
    } catch (error) {
      if (!(error instanceof AmqpError)) throw error;
      answer(400, error.message);
    }
  }
}
