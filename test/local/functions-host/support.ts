import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { type IncomingHttpHeaders, request } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  type FunctionsHost,
  type FunctionsHostOptions,
  startFunctionsHost,
} from '../../../local/functions-host/host.ts';

const modules = fileURLToPath(new URL('../../../node_modules', import.meta.url));

/** What every app of these tests begins with. */
export const prelude = "const { app, input, output, HttpResponse } = require('@azure/functions');\n";

export interface AppFiles {
  /** CommonJS source of `main.js`, after {@link prelude}. */
  main?: string;
  hostJson?: object;
  /** `null` leaves the file out. */
  packageJson?: object | null;
  /** Further files by path. */
  files?: Record<string, string>;
  /** Runs in the folder before the host starts. */
  prepare?: (directory: string) => Promise<unknown>;
}

export interface TestApp extends AsyncDisposable {
  host: FunctionsHost;
  directory: string;
  /** Waits until a log line holds the text, and answers the line. */
  logged(text: string | RegExp, timeoutMs?: number): Promise<string>;
}

/** Writes an app into a folder of its own; the packages are those of this repository. */
function writeApp(app: AppFiles): string {
  const directory = mkdtempSync(join(tmpdir(), 'gatepost-app-'));
  symlinkSync(modules, join(directory, 'node_modules'));
  const files: Record<string, string> = {
    'host.json': JSON.stringify({ version: '2.0', ...app.hostJson }),
    ...(app.packageJson !== null && { 'package.json': JSON.stringify(app.packageJson ?? { main: 'main.js' }) }),
    ...(app.main !== undefined && { 'main.js': prelude + app.main }),
    ...app.files,
  };
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), content);
  }
  return directory;
}

/** Starts a host for an app written for one test (or one group of them); `await using` stops it. */
export async function startApp(app: AppFiles, options: Omit<FunctionsHostOptions, 'directory'> = {}): Promise<TestApp> {
  const directory = writeApp(app);
  const dispose = () => rmSync(directory, { recursive: true, force: true });
  try {
    await app.prepare?.(directory);
    const host = await startFunctionsHost({ directory, ...options });
    return {
      host,
      directory,
      logged: (text, timeoutMs) => logged(host, text, timeoutMs),
      async [Symbol.asyncDispose]() {
        await host.close();
        dispose();
      },
    };
  } catch (error) {
    dispose();
    throw error;
  }
}

async function logged(host: FunctionsHost, text: string | RegExp, timeoutMs = 10_000): Promise<string> {
  const deadline = Date.now() + timeoutMs;
  while (Date.now() < deadline) {
    const line = host.logs().find((each) => (typeof text === 'string' ? each.includes(text) : text.test(each)));
    if (line !== undefined) return line;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`No log line holds ${text}. The log:\n${host.logs().join('\n')}`);
}

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
  json(): unknown;
}

export interface Call {
  method?: string;
  /** An array sends the header once per value. */
  headers?: Record<string, string | string[]>;
  body?: string | Buffer;
  /** Sends the body without a length. */
  chunked?: boolean;
}

/** A request whose path, headers and framing go over the wire exactly as given, which `fetch` does not allow. */
export function call(host: FunctionsHost, path: string, options: Call = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers: Record<string, string | string[]> = { ...options.headers };
    if (options.body !== undefined && options.chunked !== true) {
      headers['content-length'] = String(Buffer.byteLength(options.body));
    }
    const sent = request(
      { host: '127.0.0.1', port: host.port, path, method: options.method ?? 'GET', headers, agent: false },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            text,
            json: () => JSON.parse(text),
          });
        });
      },
    );
    sent.on('error', reject);
    if (options.chunked === true) sent.write(options.body ?? '');
    sent.end(options.chunked === true ? undefined : options.body);
  });
}
