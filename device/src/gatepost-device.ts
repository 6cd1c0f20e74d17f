#!/usr/bin/env node
import { main } from './cli.ts';

// The bundled SDK calls url.parse(), of which Node warns: nothing that the person who runs this can mend.
process.noDeprecation = true;

const stopping = new AbortController();
// Only `run` and `agent run` have something to finish; the rest ends at once, as Node does by itself.
if (process.argv[2] === 'run' || (process.argv[2] === 'agent' && process.argv[3] === 'run')) {
  stopOn('SIGINT', 2);
  stopOn('SIGTERM', 15);
}
// A reader that went away (`gatepost-device ... | head`) is no reason to crash.
process.stdout.on('error', () => {});
process.stderr.on('error', () => {});

const code = await main(process.argv.slice(2), {
  environment: process.env,
  // Not touched before it is read: `join` must not hold a terminal open.
  get stdin() {
    return process.stdin;
  },
  print: (line) => void process.stdout.write(`${line}\n`),
  warn: (line) => void process.stderr.write(`${line}\n`),
  signal: stopping.signal,
  colour: process.stdout.isTTY === true,
});
// Standard input may stay open for ever, and the SDK leaves timers: the end is here. Both streams are flushed first.
await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
process.exit(code);

function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => stream.write('', () => resolve()));
}

/** The first signal asks to stop; a second one ends the program with the customary exit code. */
function stopOn(signal: 'SIGINT' | 'SIGTERM', number: number): void {
  process.on(signal, () => {
    if (stopping.signal.aborted) process.exit(128 + number);
    stopping.abort();
  });
}
