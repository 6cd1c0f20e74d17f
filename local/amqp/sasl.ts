import type { Identity } from '../mqtt/identity.ts';

/** A mechanism as rhea's server wants it, see sasl.js. */
interface Mechanism {
  outcome: boolean | undefined;
  username: string | undefined;
  start(response: Buffer | undefined): void | Promise<void>;
}

export interface PlainLogin {
  identity: Identity;
  /** The first label of the hub's name, or its name up to any dot. */
  hub: string;
  password: string;
}

export interface SaslServer {
  /** Called where a client has chosen to say who it is by links and tokens later. */
  anonymous(): void;
  /** Rejects where the login is refused. */
  plain(login: PlainLogin): Promise<void>;
}

/** The mechanisms that edgeHub offers, and no other (Azure/iotedge, edge-hub Amqp AmqpSettingsProvider.cs). */
export function saslMechanisms(server: SaslServer): Record<string, () => Mechanism> {
  const anonymous = () => mechanism(() => server.anonymous());
  const plain = () => mechanism((response) => server.plain(readPlain(response)));
  return { ANONYMOUS: anonymous, MSSBCBS: anonymous, PLAIN: plain };
}

function mechanism(start: (response: Buffer) => void | Promise<void>): Mechanism {
  const made: Mechanism = {
    outcome: undefined,
    username: undefined,
    start: async (response) => {
      await start(response ?? Buffer.alloc(0));
      made.outcome = true;
    },
  };
  return made;
}

const ids = "[A-Za-z0-9\\-:.+%_#*?!(),=;$']+";
/** `{device}[/modules/{module}]@sas.{hub}`, or without `sas.` (SaslIdentityHelper.cs). */
const userName = new RegExp(`^(?<device>${ids}?)(?:/modules/(?<module>${ids}))?@(?:sas\\.)?(?<hub>[\\w-]+)$`, 'i');

/** RFC 4616: an authorization identity, which nobody looks at, who it is, and the password. */
function readPlain(response: Buffer): PlainLogin {
  const [, user = '', password = '', ...others] = response.toString('utf8').split('\0');
  const groups = userName.exec(user)?.groups;
  if (groups === undefined || password === '' || others.length > 0) {
    throw new Error(
      'Should be <deviceId>@<IotHubName> for device scope or <keyName>@root.<IotHubName> for device hub scope',
    );
  }
  const moduleId = groups.module === undefined ? null : decodeURIComponent(groups.module);
  return { identity: { deviceId: decodeURIComponent(groups.device ?? ''), moduleId }, hub: groups.hub ?? '', password };
}
