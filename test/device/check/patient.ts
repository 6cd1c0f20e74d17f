import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createPlainServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, onTestFinished } from 'vitest';
import { type CheckDeviceOptions, checkDevice } from '../../../device/src/check/check.ts';
import type { CheckReport } from '../../../device/src/check/report.ts';
import type { OnboardingDocument } from '../../../device/src/document.ts';
import { storeDocument } from '../../../device/src/state.ts';
import type { CertificateFault } from '../../../local/gateway/bad-certificates.ts';
import type { Gateway } from '../../../local/gateway/gateway.ts';
import { type KeyedDevice, Site } from '../../local/gateway/site.ts';
import { onboardingDocument, trustedRoot } from '../support.ts';

/** What the API double answers; a test changes it as the API would have changed. */
export interface ApiBehaviour {
  /** Its clock less that of this machine. */
  clockOffsetMs: number;
  /** A problem code with its status, in place of the document. */
  problem?: { status: number; code: string };
  /** What the document has become, over what the device has stored. */
  document?: Partial<OnboardingDocument>;
  /** PEM of the roots in the bundle. */
  roots: string[];
  sequence: number;
  /** No answer at all. */
  isAway: boolean;
  requests: { path: string; authorization: string | undefined }[];
}

/** A device that is well, and all that it meets. A test breaks one thing or two. */
export interface Patient {
  device: KeyedDevice;
  document: OnboardingDocument;
  api: ApiBehaviour;
  state: string;
  /** Stores the document as it is now. */
  store(): Promise<void>;
  check(options?: Partial<CheckDeviceOptions>): Promise<CheckReport>;
}

/** A hub and a gateway for a whole test file, and an API for each patient. */
export class Clinic {
  readonly site: Site;
  readonly gateway: Gateway;
  #patients = 0;

  private constructor(site: Site, gateway: Gateway) {
    this.site = site;
    this.gateway = gateway;
  }

  static async open(options: Parameters<Site['gateway']>[0] = { id: 'gateway-1' }): Promise<Clinic> {
    const site = await Site.open();
    const clinic = new Clinic(site, await site.gateway(options));
    afterAll(() => site.close());
    return clinic;
  }

  /** Serves these certificates until the test is over. */
  async serve(fault: CertificateFault): Promise<void> {
    await this.gateway.serve(fault);
    // As good as before, and sooner made than an RSA key.
    onTestFinished(() => this.gateway.serve({}));
  }

  async patient(): Promise<Patient> {
    this.#patients += 1;
    const device = await this.site.device(`patient-${this.#patients}`, this.gateway);
    const document = this.documentFor(device);
    const api = behaviour([this.gateway.root]);
    const url = await startApi(api, () => document);
    const state = join(temporary(), 'state');
    const patient: Patient = {
      device,
      document,
      api,
      state,
      store: () => storeDocument(state, { document, origin: originOf(url) }),
      check: (options = {}) => checkDevice({ state, timeoutMs: 2000, connect: 'always', ...options }),
    };
    await patient.store();
    return patient;
  }

  documentFor(device: KeyedDevice, credential?: string): OnboardingDocument {
    const { root, ports } = this.gateway;
    const { deviceId, moduleId, key } = device;
    const document = onboardingDocument({
      roots: [root],
      port: ports.mqtt,
      hub: this.site.hub.hostname,
      deviceId,
      ...(moduleId === undefined ? {} : { moduleId }),
      credential: credential ?? `SharedAccessKey=${key}`,
    });
    return { ...document, gateway: { ...document.gateway, id: this.gateway.id } };
  }
}

export function originOf(api: string | null) {
  return { api, rootSha256: null, joinedAt: new Date(Date.now() - 60_000).toISOString() };
}

/** Codes that are worse than a remark, in the order in which they are shown. */
export function faultsOf(report: CheckReport): string[] {
  return codesOf(report, 'warning', 'error');
}

export function codesOf(report: CheckReport, ...severities: string[]): string[] {
  const findings = report.checks.flatMap((check) => check.findings);
  return findings.filter(({ severity }) => severities.includes(severity)).map(({ code }) => code);
}

/** Which checks were not run, and why. */
export function skippedBy(report: CheckReport): Record<string, string | null> {
  const skipped = report.checks.filter(({ result }) => result === 'skipped');
  return Object.fromEntries(skipped.map(({ name, because }) => [name, because]));
}

export function temporary(): string {
  const folder = mkdtempSync(join(tmpdir(), 'gatepost-check-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, 'state'), { mode: 0o700 });
  return folder;
}

/** A port where nobody listens. */
export async function closedPort(): Promise<number> {
  const server = createPlainServer();
  const port = await listen(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A port where something listens that does not speak TLS. */
export async function plainPort(): Promise<number> {
  const server = createPlainServer((socket) => {
    socket.on('error', () => {});
    socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
  });
  onTestFinished(() => void server.close());
  return listen(server);
}

export async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

export function randomKey(): string {
  return randomBytes(32).toString('base64');
}

function behaviour(roots: string[]): ApiBehaviour {
  return { clockOffsetMs: 0, roots, sequence: 7, isAway: false, requests: [] };
}

/** The three routes of the API that the doctor asks, as the contract has them. */
async function startApi(api: ApiBehaviour, stored: () => OnboardingDocument): Promise<string> {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://api');
    api.requests.push({ path: pathname, authorization: request.headers.authorization });
    if (api.isAway) return void request.socket.destroy();
    const send = (status: number, body: object) => {
      response.setHeader('date', new Date(Date.now() + api.clockOffsetMs).toUTCString());
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    };
    if (pathname === '/api/v1/health') return void send(200, { status: 'ok' });
    if (pathname === '/api/v1/trust-bundle') {
      return void send(200, { sequence: api.sequence, refreshHintSeconds: 3600, roots: api.roots.map(trustedRoot) });
    }
    if (pathname.endsWith('/onboarding')) {
      if (!/^SharedAccessSignature sr=/.test(request.headers.authorization ?? '')) {
        return void send(401, { code: 'device_token_invalid', title: 'No', detail: 'Send a token.' });
      }
      if (api.problem !== undefined) {
        const { status, code } = api.problem;
        return void send(status, { status, code, title: code, detail: 'As the contract says.' });
      }
      return void send(200, { ...stored(), ...api.document });
    }
    send(404, { code: 'not_found', title: 'There is nothing here' });
  });
  onTestFinished(() => {
    server.closeAllConnections();
    return new Promise<void>((resolve) => server.close(() => resolve()));
  });
  return `http://127.0.0.1:${await listen(server)}`;
}
