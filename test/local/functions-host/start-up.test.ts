import { readdirSync, realpathSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { build } from 'esbuild';
import { describe, expect, it } from 'vitest';
import { startFunctionsHost } from '../../../local/functions-host/host.ts';
import { call, prelude, startApp, type TestApp } from './support.ts';

const hello = "app.http('hello', { handler: () => ({ body: 'Hello' }) });";

describe('start-up of an app', () => {
  it('runs with the folder of the app as working directory', async () => {
    await using app = await startApp({ main: "app.http('where', { handler: () => ({ body: process.cwd() }) });" });
    expect((await call(app.host, '/api/where')).text).toBe(realpathSync(app.directory));
  });

  it('loads every file that a glob in main matches, in sorted order', async () => {
    const file = (name: string) =>
      `${prelude}globalThis.order = [...(globalThis.order ?? []), '${name}'];
       app.http('${name}', { handler: () => ({ jsonBody: globalThis.order }) });`;
    await using app = await startApp({
      packageJson: { main: '{z.js,b.js,src/*.js}' },
      files: { 'z.js': file('z'), 'b.js': file('b'), 'src/a.js': file('a') },
    });
    expect(app.host.functions).toEqual(['a', 'b', 'z']);
    expect((await call(app.host, '/api/z')).json()).toEqual(['b', 'a', 'z']);
  });

  it('lets the option main win over package.json', async () => {
    await using app = await startApp(
      { main: "throw new Error('not me')", files: { 'other.js': prelude + hello } },
      { main: './other.js' },
    );
    expect(app.host.functions).toEqual(['hello']);
  });

  it('finds the app in a relative folder, and an entry point outside it', async () => {
    await using outside = await startApp({ main: hello });
    await using app = await startApp({}, { main: join(outside.directory, 'main.js') });
    expect(app.host.functions).toEqual(['hello']);
    const host = await startFunctionsHost({ directory: relative(process.cwd(), outside.directory) });
    expect(host.functions).toEqual(['hello']);
    await host.close();
  });

  it('knows a function by its name, as id too', async () => {
    await using app = await startApp({
      main: `${hello}
        const model = require('@azure/functions-core').getProgrammingModel();
        const original = model.getInvocationModel;
        model.getInvocationModel = (context) => { console.log('id ' + context.request.functionId + ' of ' + model.name); return original.call(model, context); };`,
    });
    await call(app.host, '/api/hello');
    await app.logged('id hello of @azure/functions');
  });

  it('loads ES modules and, in a package of type module, CommonJS by its extension', async () => {
    await using app = await startApp({
      packageJson: { type: 'module', main: 'src/*' },
      files: {
        'src/a.js': "import { app } from '@azure/functions'; app.http('a', { handler: () => ({ body: 'a' }) });",
        'src/b.cjs': `${prelude}app.http('b', { handler: () => ({ body: 'b' }) });`,
        'src/c.mjs': "import { app } from '@azure/functions'; app.http('c', { handler: () => ({ body: 'c' }) });",
      },
    });
    expect(app.host.functions).toEqual(['a', 'b', 'c']);
  });

  it('stays up without a function when an entry point throws, and shows what it threw and where', async () => {
    await using app = await startApp({
      packageJson: { main: 'src/*.js' },
      files: { 'src/a.js': prelude + hello, 'src/b.js': "throw new TypeError('no such luck')" },
    });
    await app.logged('Host.Function.Console: Worker was unable to load entry point "src/b.js": no such luck');
    await app.logged('[Error] Host.Function.Console: TypeError: no such luck');
    await app.logged(/Host\.Function\.Console: +at .*src\/b\.js:1:/);
    expect(app.host.functions).toEqual([]);
    expect(app.host.errors).toEqual(['Worker was unable to load entry point "src/b.js": no such luck']);
    expect((await call(app.host, '/api/hello')).status).toBe(404);
    expect((await call(app.host, '/admin/host/ping')).status).toBe(200);
  });

  it('stays up without a function when main names no file', async () => {
    await using app = await startApp({ packageJson: { main: 'dist/nothing.js' } });
    await app.logged('Worker was unable to load entry point "dist/nothing.js": File does not exist');
    expect((await call(app.host, '/api/hello')).status).toBe(404);
    expect((await call(app.host, '/admin/host/ping')).status).toBe(200);
  });

  it('stays up without a function when there is no package.json', async () => {
    await using app = await startApp({ main: hello, packageJson: null });
    expect(app.host.functions).toEqual([]);
    expect((await call(app.host, '/api/hello')).status).toBe(404);
    expect((await call(app.host, '/admin/host/ping')).status).toBe(200);
  });

  it('drops every function when an appStart hook throws', async () => {
    await using app = await startApp({
      main: `${hello} app.hook.appStart(() => { throw new Error('cannot start'); });`,
    });
    await app.logged(/Host\.Function\.Console: Error: cannot start/);
    expect((await call(app.host, '/api/hello')).status).toBe(404);
    expect((await call(app.host, '/admin/host/ping')).status).toBe(200);
  });

  it('takes a name that is registered twice for a failure to load', async () => {
    await using app = await startApp({ main: hello + hello });
    await app.logged('A function with name "hello" has already been registered.');
    expect(app.host.functions).toEqual([]);
  });

  it('refuses to register a function, or to set the app up, once it has started', async () => {
    await using app = await startApp({
      main: `app.http('late', { handler: () => {
        const caught = [];
        try { app.http('later', { handler: () => ({}) }); } catch (error) { caught.push(error.message); }
        try { app.setup({ enableHttpStream: true }); } catch (error) { caught.push(error.message); }
        return { jsonBody: caught };
      } });`,
    });
    expect((await call(app.host, '/api/late')).json()).toEqual([
      'A function can only be registered during app startup.',
      "Setup options can't be changed after app startup has finished.",
    ]);
  });

  it('still lets an appStart hook register a function', async () => {
    await using app = await startApp({ main: `app.hook.appStart(() => { ${hello} });` });
    expect((await call(app.host, '/api/hello')).text).toBe('Hello');
  });

  it('refuses a function with a bad name and lets the others work', async () => {
    const long = `a${'b'.repeat(128)}`;
    await using app = await startApp({
      main: `${hello}
        for (const name of ['1st', 'with space', 'host', 'Host', '${long}', 'Good_name-1']) app.http(name, { handler: () => ({}) });`,
    });
    expect(app.host.functions).toEqual(['Good_name-1', 'hello']);
    expect(app.host.faults.map(({ name }) => name).sort()).toEqual(['1st', 'Host', long, 'host', 'with space'].sort());
    await app.logged("The '1st' function is in error: '1st' is not a valid function name.");
    expect((await call(app.host, '/api/hello')).text).toBe('Hello');
  });

  it('gives a route to the first function by name and refuses the second, if they share a method', async () => {
    await using app = await startApp({
      main: `app.http('zeta', { route: 'Same', handler: () => ({ body: 'zeta' }) });
        app.http('alpha', { route: 'same', handler: () => ({ body: 'alpha' }) });
        app.http('put', { route: 'same', methods: ['PUT'], handler: () => ({ body: 'put' }) });`,
    });
    expect(app.host.functions).toEqual(['alpha', 'put']);
    expect(app.host.faults).toEqual([
      { name: 'zeta', message: "The route specified conflicts with the route defined by function 'alpha'." },
    ]);
    expect((await call(app.host, '/api/same')).text).toBe('alpha');
    expect((await call(app.host, '/api/same', { method: 'PUT' })).text).toBe('put');
  });

  it('refuses a function whose binding type nobody has registered', async () => {
    await using app = await startApp({
      main: `${hello}
        app.storageBlob('blob', { path: 'box/{name}', connection: 'Storage', handler: () => {} });
        app.http('table', { extraInputs: [input.table({ tableName: 'T', connection: 'Storage' })], handler: () => ({}) });`,
    });
    expect(app.host.functions).toEqual(['hello']);
    expect(app.host.faults.map(({ message }) => message)).toEqual([
      expect.stringContaining("'blobTrigger' are not registered"),
      expect.stringContaining("'table' are not registered"),
    ]);
    expect((await call(app.host, '/api/hello')).status).toBe(200);
  });

  it('needs a host.json, as the real host does', async () => {
    await expect(startApp({ main: hello, hostJson: { version: '1.0' } })).rejects.toThrow('version must be "2.0"');
  });

  it('keeps the app in the same place when several files load their own copy of the library', async () => {
    await using app = await startApp({
      main: `delete require.cache[require.resolve('@azure/functions')];
        const again = require('@azure/functions').app;
        app.http('one', { handler: () => ({ body: 'one' }) });
        again.http('two', { handler: () => ({ body: 'two' }) });`,
    });
    expect((await call(app.host, '/api/one')).text).toBe('one');
    expect((await call(app.host, '/api/two')).text).toBe('two');
  });
});

describe('defaults of a registration', () => {
  it('are GET and POST, no key, and the name of the function as its route under /api', async () => {
    await using app = await startApp({
      main: "app.http('Plain', { route: '', handler: (r) => ({ body: r.method }) });",
    });
    expect((await call(app.host, '/api/plain')).text).toBe('GET');
    expect((await call(app.host, '/api/plain', { method: 'POST' })).text).toBe('POST');
    expect((await call(app.host, '/api/plain', { method: 'PUT' })).status).toBe(404);
    expect((await call(app.host, '/plain')).status).toBe(404);
  });

  it('have a prefix that host.json replaces or takes away', async () => {
    const prefix = (routePrefix: string) => ({ extensions: { http: { routePrefix } } });
    await using none = await startApp({ main: hello, hostJson: prefix('') });
    await using other = await startApp({ main: hello, hostJson: prefix('v1/things') });
    expect((await call(none.host, '/hello')).text).toBe('Hello');
    expect((await call(other.host, '/v1/things/hello')).text).toBe('Hello');
    expect((await call(other.host, '/hello')).status).toBe(404);
  });
});

describe('bundles', () => {
  async function startBundle(format: 'cjs' | 'esm', banner?: string): Promise<TestApp> {
    const source = "import { app } from '@azure/functions'; app.http('hello', { handler: () => ({ body: 'Hello' }) });";
    const bundle = (directory: string) =>
      build({
        absWorkingDir: directory,
        entryPoints: ['source.js'],
        outfile: join(directory, 'bundle', format === 'cjs' ? 'main.cjs' : 'main.mjs'),
        bundle: true,
        platform: 'node',
        format,
        external: ['@azure/functions-core'],
        logLevel: 'silent',
        ...(banner !== undefined && { banner: { js: banner } }),
      });
    return startApp({ packageJson: { main: 'bundle/*' }, files: { 'source.js': source }, prepare: bundle });
  }

  it('work as CommonJS as they are', async () => {
    await using app = await startBundle('cjs');
    expect((await call(app.host, '/api/hello')).text).toBe('Hello');
  });

  it('fail as ES modules, because the library requires', async () => {
    await using app = await startBundle('esm');
    expect(app.host.errors).toEqual([expect.stringContaining('Dynamic require of "util" is not supported')]);
  });

  it('work as ES modules with a banner that makes require', async () => {
    const banner = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);";
    await using app = await startBundle('esm', banner);
    expect(app.host.errors).toEqual([]);
    expect((await call(app.host, '/api/hello')).text).toBe('Hello');
  });
});

describe('the app folder', () => {
  it('is left as it was: nothing is written into it', async () => {
    await using app = await startApp({ main: hello });
    await call(app.host, '/api/hello');
    expect(readdirSync(app.directory).sort()).toEqual(['host.json', 'main.js', 'node_modules', 'package.json']);
  });

  it('is read again when the host restarts, on the same port', async () => {
    await using app = await startApp({ main: hello });
    const { port } = app.host;
    writeFileSync(
      join(app.directory, 'main.js'),
      `${prelude}app.http('hello', { handler: () => ({ body: 'Again' }) });`,
    );
    await app.host.restart();
    expect(app.host.port).toBe(port);
    expect((await call(app.host, '/api/hello')).text).toBe('Again');
  });
});
