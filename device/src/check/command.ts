import { parseGatewayAddress } from '../connection-string.ts';
import { GatepostDeviceError } from '../errors.ts';
import type { ClientCertificate } from '../session.ts';
import { checkDevice, checkGateway } from './check.ts';
import type { ConnectMode } from './context.ts';
import type { CheckReport } from './report.ts';
import { renderTable } from './table.ts';

export interface CheckCommand {
  /** A folder, or a gateway to look at without one. */
  subject: { state: string } | { gateway: string; roots: { file: string; pem: string } };
  connect: ConnectMode;
  certificate: ClientCertificate | undefined;
  timeoutMs: number;
  json: boolean;
  verbose: boolean;
  colour: boolean;
}

/** Runs the checks and prints what they found. Answers the exit code. */
export async function runCheck(command: CheckCommand, print: (line: string) => void): Promise<number> {
  const report = await examine(command);
  if (command.json) print(JSON.stringify(report, null, 2));
  else for (const line of renderTable(report, command)) print(line);
  return report.exitCode;
}

function examine({ subject, connect, certificate, timeoutMs }: CheckCommand): Promise<CheckReport> {
  if ('state' in subject) return checkDevice({ state: subject.state, connect, certificate, timeoutMs });
  return checkGateway({ ...readAddress(subject.gateway), roots: subject.roots, timeoutMs });
}

function readAddress(text: string) {
  try {
    return parseGatewayAddress(text);
  } catch {
    throw new GatepostDeviceError('usage', `--gateway takes a host name or host:port, not ${JSON.stringify(text)}.`);
  }
}
