import type { Surroundings } from './cli.ts';
import { type DeviceErrorCode, GatepostDeviceError, reasonOf } from './errors.ts';
import { Keeper } from './keeper.ts';
import { Listener } from './listen.ts';
import type { Protocol } from './protocol.ts';
import { type RunResult, run } from './run.ts';
import { serviceManager } from './service-manager.ts';
import type { ClientCertificate } from './session.ts';
import { Spool, usualSpoolBytes } from './spool.ts';
import { readDocument } from './state.ts';
import { count } from './words.ts';

export interface RunCommand {
  state: string;
  protocol: Protocol;
  certificate: ClientCertificate | undefined;
  /** Undefined where nobody said how long to wait. */
  waitMs: number | undefined;
  flushMs: number;
  spool: string | undefined;
  spoolLimitBytes: number | undefined;
  listen: boolean;
  /** A program that answers methods. */
  methods: string | undefined;
  logFormat: 'text' | 'json';
}

/** Runs until the input ends or a signal comes. Answers the exit code. */
export async function runService(command: RunCommand, surroundings: Surroundings): Promise<number> {
  const { warn, signal } = surroundings;
  const log = logger(command.logFormat, warn);
  try {
    const result = await serve(command, surroundings, log.info);
    log.info(`${signal.aborted ? 'stopped' : 'end of input'}: ${summary(result)}`);
    return 0;
  } catch (error) {
    if (command.logFormat === 'text') throw error;
    const isKnown = error instanceof GatepostDeviceError;
    log.fault(isKnown ? error.code : 'internal', reasonOf(error));
    return isKnown ? error.exitCode : 1;
  }
}

async function serve(command: RunCommand, surroundings: Surroundings, log: (line: string) => void): Promise<RunResult> {
  const { environment, stdin, signal, print } = surroundings;
  const { state, protocol, certificate, flushMs } = command;
  const document = await readDocument(state);
  const spool = await openSpool(command, log);
  const keeper = await Keeper.start({ document, state, log });
  const manager = serviceManager(environment, log);
  const isListening = command.listen || command.methods !== undefined;
  const listener = isListening
    ? new Listener({ print: command.listen ? print : () => {}, log, command: command.methods })
    : undefined;
  if (stdin.isTTY === true) log('reading JSON lines from the terminal; end with Ctrl-D');
  if (spool !== undefined) manager.ready('taking messages into the spool');
  const onState = (what: 'connected' | 'waiting' | 'stopping', words: string) => {
    if (what === 'connected') manager.ready(words);
    else if (what === 'stopping') manager.stopping(words);
    else manager.status(words);
  };
  // What is spooled is safe, so there is no hurry with the first connection.
  const waitMs = command.waitMs ?? (spool === undefined ? 0 : Number.POSITIVE_INFINITY);
  try {
    const options = { document, protocol, certificate, keeper, spool, listener, waitMs, flushMs };
    return await run({ ...options, input: stdin, log, signal, onState });
  } finally {
    keeper.stop();
  }
}

function openSpool(command: RunCommand, log: (line: string) => void): Promise<Spool> | undefined {
  if (command.spool === undefined) return undefined;
  return Spool.open({ folder: command.spool, limitBytes: command.spoolLimitBytes ?? usualSpoolBytes, log });
}

function summary({ delivered, refused, givenUp, dropped }: RunResult): string {
  return [
    `${count(delivered, 'message')} delivered`,
    ...(refused === 0 ? [] : [`${count(refused, 'bad line')} skipped`]),
    ...(givenUp === undefined ? [] : [`${count(givenUp, 'message')} given up`]),
    ...(dropped === undefined ? [] : [`${count(dropped, 'message')} dropped from the spool`]),
  ].join(', ');
}

function logger(format: 'text' | 'json', warn: (line: string) => void) {
  if (format === 'text') return { info: (line: string) => warn(`gatepost-device: ${line}`), fault: () => {} };
  const write = (level: 'info' | 'error', message: string, more: object = {}) =>
    warn(JSON.stringify({ time: new Date().toISOString(), level, message, ...more }));
  return {
    info: (line: string) => write('info', line),
    fault: (code: DeviceErrorCode, message: string) => write('error', message, { code }),
  };
}
