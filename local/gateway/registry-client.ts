import { Agent, request } from 'node:https';
import { makeSasToken } from './sas-token.ts';
import { type ScopeClientOptions, UpstreamError } from './scope-client.ts';

/** The questions that edgeHub hands on for a child device. */
export type OnBehalfOf =
  | 'putModuleOnBehalfOf'
  | 'getModuleOnBehalfOf'
  | 'getModulesOnTargetDevice'
  | 'deleteModuleOnBehalfOf';

export interface UpstreamAnswer {
  status: number;
  /** As it came. */
  text: string;
}

const apiVersion = '2020-06-30-preview';
const timeoutMs = 30_000;

/** Hands on what child devices ask of the module registry (Azure/iotedge, RegistryOnBehalfOfApiClient.cs). */
export class RegistryClient {
  readonly #options: ScopeClientOptions;
  readonly #agent: Agent;

  constructor(options: ScopeClientOptions) {
    this.#options = options;
    this.#agent = new Agent({ keepAlive: true, ca: options.hub.ca, servername: options.hub.hostname });
  }

  /** Throws {@link UpstreamError} where the hub cannot be reached. */
  ask(question: OnBehalfOf, body: object, condition: string | undefined): Promise<UpstreamAnswer> {
    const { hub, edgeDeviceId, edgeKey } = this.#options;
    const path = `/devices/${encodeURIComponent(edgeDeviceId)}/modules/$edgeHub/${question}?api-version=${apiVersion}`;
    const text = JSON.stringify(body);
    const audience = `${hub.hostname}/devices/${edgeDeviceId}/modules/$edgeHub`;
    const headers = {
      host: hub.hostname,
      authorization: makeSasToken(audience, edgeKey, Math.floor(Date.now() / 1000) + 3600),
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
      ...(condition === undefined ? {} : { 'if-match': condition }),
    };
    const options = { host: '127.0.0.1', port: hub.port, method: 'POST', path, headers, agent: this.#agent };
    return new Promise((resolve, reject) => {
      const fail = (error: Error) => reject(new UpstreamError(`The hub did not answer ${question}: ${error.message}.`));
      const call = request(options, (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('error', fail);
        answer.on('end', () => {
          resolve({ status: answer.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') });
        });
      });
      call.setTimeout(timeoutMs, () => call.destroy(new Error(`no answer in ${timeoutMs} ms`)));
      call.once('error', fail);
      call.end(text);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}
