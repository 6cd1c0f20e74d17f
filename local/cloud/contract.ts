import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** What `.gatepost/local.json` says. Tools and tests outside this repository read it: its fields do not change. */
export interface LocalContract {
  /** The API's base URL; empty where only the cloud around it runs. */
  api: string;
  /** A bearer token with every role, valid 8 hours. */
  operatorToken: string;
  entra: {
    issuer: string;
    tokenUrl: string;
    audience: string;
    clients: { name: string; clientId: string; clientSecret: string; roles: string[] }[];
  };
  hub: { hostname: string; port: number; connectionString: string; caFile: string; telemetryUrl: string };
  vault: { url: string; port: number; caFile: string };
  storage: { connectionString: string };
  gateways: ContractGateway[];
  faultsUrl: string;
}

export interface ContractGateway {
  id: string;
  hostname: string;
  /** A protocol that is not served is null. */
  ports: { mqtt: number | null; amqp: number | null; websocket: number | null };
  rootFile: string;
}

/** Where the contract of the cloud in `directory` is. */
export function contractFile(directory: string): string {
  return join(directory, 'local.json');
}

/** Written whole or not at all, for its owner only: it holds secrets. */
export function writeContract(directory: string, contract: LocalContract): void {
  const file = contractFile(directory);
  const draft = `${file}.${process.pid}.tmp`;
  writeFileSync(draft, `${JSON.stringify(contract, undefined, 2)}\n`, { mode: 0o600 });
  renameSync(draft, file);
}

export function removeContract(directory: string): void {
  rmSync(contractFile(directory), { force: true });
}
