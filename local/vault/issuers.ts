import type { Reply } from '../kit/https-server.ts';
import { checkName, readFlag, readObject, readText } from './checks.ts';
import { badParameter, VaultError } from './errors.ts';
import type { VaultSettings } from './object-store.ts';
import type { Call, Operation } from './operations.ts';
import { page } from './shapes.ts';

export interface StoredIssuer {
  name: string;
  provider: string;
  credentials?: Record<string, unknown> | undefined;
  organization?: Record<string, unknown> | undefined;
  enabled: boolean;
  created: number;
  updated: number;
}

/** Whom certificates come from, and who is told about them. */
export interface IssuerState {
  issuers: StoredIssuer[];
  contacts: Record<string, unknown>[];
}

/** Contacts and issuers are kept and answered; no certification authority is ever called and no mail sent. */
export function issuerOperations(settings: VaultSettings, state: IssuerState): Operation[] {
  const service = new Issuers(settings, state);
  const contacts = '/certificates/contacts';
  const manageContacts: [string] = ['certificatecontacts/write'];
  const issuer = '/certificates/issuers/{issuer}';
  const write: [string] = ['certificatecas/write'];
  const read: [string] = ['certificatecas/read'];
  return [
    { method: 'PUT', path: contacts, actions: manageContacts, act: (call) => service.setContacts(call) },
    { method: 'GET', path: contacts, actions: manageContacts, act: () => service.contacts() },
    { method: 'DELETE', path: contacts, actions: manageContacts, act: () => service.deleteContacts() },
    { method: 'GET', path: '/certificates/issuers', actions: read, act: (call) => service.list(call) },
    { method: 'PUT', path: issuer, actions: write, act: (call) => service.set(call) },
    { method: 'PATCH', path: issuer, actions: write, act: (call) => service.update(call) },
    { method: 'GET', path: issuer, actions: read, act: (call) => service.get(call) },
    { method: 'DELETE', path: issuer, actions: ['certificatecas/delete'], act: (call) => service.delete(call) },
  ];
}

class Issuers {
  readonly #settings: VaultSettings;
  readonly #state: IssuerState;

  constructor(settings: VaultSettings, state: IssuerState) {
    this.#settings = settings;
    this.#state = state;
  }

  setContacts({ body }: Call): Reply {
    const { contacts } = body;
    if (!Array.isArray(contacts) || contacts.length === 0) throw badParameter('Property contacts has invalid value');
    for (const contact of contacts as Record<string, unknown>[]) {
      if (!readText(contact, 'email')) throw badParameter('Property contacts.email has invalid value');
    }
    this.#state.contacts = contacts;
    this.#settings.touch();
    return this.contacts();
  }

  contacts(): Reply {
    if (this.#state.contacts.length === 0) throw new VaultError(404, 'ContactsNotFound', 'Contacts not found');
    return { status: 200, body: { id: `${this.#settings.url}/certificates/contacts`, contacts: this.#state.contacts } };
  }

  deleteContacts(): Reply {
    const reply = this.contacts();
    this.#state.contacts = [];
    this.#settings.touch();
    return reply;
  }

  set(call: Call): Reply {
    const name = nameOf(call);
    const provider = readText(call.body, 'provider');
    if (!provider) throw badParameter('Property provider has invalid value');
    const now = this.#settings.now();
    const made: StoredIssuer = { name, provider, enabled: true, created: now, updated: now };
    change(made, call.body);
    this.#state.issuers = [...this.#state.issuers.filter((known) => known.name !== name), made];
    this.#settings.touch();
    return this.#answer(made);
  }

  update(call: Call): Reply {
    const found = this.#find(nameOf(call));
    change(found, call.body);
    found.updated = this.#settings.now();
    this.#settings.touch();
    return this.#answer(found);
  }

  get(call: Call): Reply {
    return this.#answer(this.#find(nameOf(call)));
  }

  delete(call: Call): Reply {
    const found = this.#find(nameOf(call));
    this.#state.issuers = this.#state.issuers.filter((known) => known !== found);
    this.#settings.touch();
    return this.#answer(found);
  }

  list({ query }: Call): Reply {
    const items = this.#state.issuers.map((known) => ({ id: this.#id(known), provider: known.provider }));
    return page(this.#settings, '/certificates/issuers', query, items);
  }

  #find(name: string): StoredIssuer {
    const found = this.#state.issuers.find((known) => known.name === name);
    if (found === undefined) throw new VaultError(404, 'CertificateIssuerNotFound', `Issuer not found: ${name}`);
    return found;
  }

  #id({ name }: StoredIssuer): string {
    return `${this.#settings.url}/certificates/issuers/${name}`;
  }

  /** An account's password is taken and never answered. */
  #answer(issuer: StoredIssuer): Reply {
    const { pwd: _password, ...credentials } = issuer.credentials ?? {};
    const { enabled, created, updated } = issuer;
    return {
      status: 200,
      body: {
        id: this.#id(issuer),
        provider: issuer.provider,
        ...(issuer.credentials === undefined ? {} : { credentials }),
        ...(issuer.organization === undefined ? {} : { org_details: issuer.organization }),
        attributes: { enabled, created, updated },
      },
    };
  }
}

function nameOf({ params: { issuer = '' } }: Call): string {
  checkName(issuer);
  return issuer;
}

function change(issuer: StoredIssuer, body: Record<string, unknown>): void {
  issuer.provider = readText(body, 'provider') ?? issuer.provider;
  issuer.credentials = readObject(body, 'credentials') ?? issuer.credentials;
  issuer.organization = readObject(body, 'org_details') ?? issuer.organization;
  issuer.enabled = readFlag(readObject(body, 'attributes') ?? {}, 'enabled') ?? issuer.enabled;
}
