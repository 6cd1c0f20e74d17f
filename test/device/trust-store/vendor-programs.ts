import { type Scratch, scratch } from './machines.ts';

/*
 * Stand-ins for programs that only their systems have. They keep a store in a file and refuse what the real ones refuse, so
 * that a wrong command fails here as it does there. `deny` makes them answer as to a user without rights.
 */

const common = `#!${process.execPath}
const fs = require('node:fs');
const path = require('node:path');
const { X509Certificate } = require('node:crypto');
const root = process.env.ROOT;
const args = process.argv.slice(2);
fs.appendFileSync(path.join(root, 'calls.log'), [path.basename(process.argv[1]), ...args].join(' ') + '\\n');
const file = path.join(root, 'store.json');
const store = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, 'utf8')) : { certificates: [], settings: [] };
const save = () => fs.writeFileSync(file, JSON.stringify(store));
const end = (code, text) => { process.stdout.write(text + '\\n'); process.exit(code); };
const fail = (code, text) => { process.stderr.write(text + '\\n'); process.exit(code); };
const denied = fs.existsSync(path.join(root, 'deny'));
const lying = fs.existsSync(path.join(root, 'lie'));
const sha1 = (base64) => new X509Certificate(Buffer.from(base64, 'base64')).fingerprint.replaceAll(':', '');
const readPem = (name) => new X509Certificate(fs.readFileSync(name)).raw.toString('base64');
`;

// Error texts as on Windows Server 2022.
const certutil = `${common}
const accessDenied = () => end(5, 'CertUtil: -' + verb + ' command FAILED: 0x80070005 (WIN32: 5 ERROR_ACCESS_DENIED)\\r\\nCertUtil: Access is denied.');
const verb = (args[0] || '').replace(/^-/, '');
if (verb === 'addstore') {
  const force = args[1] === '-f';
  const [name, source, ...more] = args.slice(force ? 2 : 1);
  if (name !== 'Root' || source === undefined || more.length > 0) end(1, 'CertUtil: Expected at least 2 args');
  if (!fs.existsSync(source)) end(2, 'CertUtil: -addstore command FAILED: 0x80070002 (WIN32: 2 ERROR_FILE_NOT_FOUND)');
  if (denied) accessDenied();
  let der;
  try { der = readPem(source); } catch { end(1, 'CertUtil: -addstore command FAILED: 0x8009310b (ASN: 267 CRYPT_E_ASN1_BADTAG)'); }
  if (!lying && !store.certificates.some((each) => each.der === der)) store.certificates.push({ der, name: '' });
  save();
  end(0, 'Root "Trusted Root Certification Authorities"\\r\\nCertUtil: -addstore command completed successfully.');
}
if (verb === 'delstore') {
  const [name, id] = args.slice(1);
  if (name !== 'Root' || id === undefined) end(1, 'CertUtil: Expected at least 2 args');
  if (denied) accessDenied();
  const left = store.certificates.filter((each) => sha1(each.der) !== id.toUpperCase());
  if (left.length === store.certificates.length) end(11, 'CertUtil: -delstore command FAILED: 0x80090011 (-2146893807 NTE_NOT_FOUND)');
  store.certificates = left;
  save();
  end(0, 'Deleting Certificate\\r\\nCertUtil: -delstore command completed successfully.');
}
end(1, 'CertUtil: Unknown arg: ' + args[0]);
`;

// Windows PowerShell, as far as it is asked: anything else is an error, as a typing error would be.
const powershell = `${common}
const [a, b, c, command] = args;
if (a !== '-NoProfile' || b !== '-NonInteractive' || c !== '-Command' || args.length !== 4) fail(64, 'unexpected arguments');
if (command === "$ErrorActionPreference = 'Stop'; Get-ChildItem -LiteralPath Cert:\\\\LocalMachine\\\\Root | ForEach-Object { $_.FriendlyName + '|' + [Convert]::ToBase64String($_.RawData) }") {
  end(0, store.certificates.map(({ name, der }) => name + '|' + der).join('\\r\\n'));
}
const set = /^\\(Get-Item -LiteralPath 'Cert:\\\\LocalMachine\\\\Root\\\\([0-9A-F]{40})' -ErrorAction Stop\\)\\.FriendlyName = '([^']*)'$/.exec(command);
if (set === null) fail(1, 'ParserError: ' + command);
if (denied) fail(1, 'Exception setting "FriendlyName": "Access is denied."');
const found = store.certificates.find((each) => sha1(each.der) === set[1]);
if (found === undefined) fail(1, 'Get-Item : Cannot find path because it does not exist.');
found.name = set[2];
save();
`;

// security(1): the keychain and the trust settings are two things.
const security = `${common}
const [verb, ...rest] = args;
const keychain = '/Library/Keychains/System.keychain';
if (verb === 'add-trusted-cert') {
  const [d, r, kind, k, chain, source, ...more] = rest;
  if (d !== '-d' || r !== '-r' || kind !== 'trustRoot' || k !== '-k' || chain !== keychain || more.length > 0) fail(2, 'Usage: add-trusted-cert');
  let der;
  try { der = readPem(source); } catch { fail(1, '***Error reading file ' + source + '***'); }
  if (!store.certificates.some((each) => each.der === der)) store.certificates.push({ der, name: '' });
  save();
  // Over SSH nobody can answer the question: the certificate is in the keychain then, and not trusted.
  if (denied) fail(1, 'SecTrustSettingsSetTrustSettings: The authorization was denied since no user interaction was possible.');
  if (!lying) store.settings = [...new Set([...store.settings, sha1(der)])];
  save();
  process.exit(0);
}
if (verb === 'remove-trusted-cert') {
  if (rest[0] !== '-d') fail(2, 'Usage: remove-trusted-cert');
  const id = sha1(readPem(rest[1]));
  if (!store.settings.includes(id)) fail(1, 'SecTrustSettingsRemoveTrustSettings: The specified item could not be found in the keychain.');
  store.settings = store.settings.filter((each) => each !== id);
  save();
  process.exit(0);
}
if (verb === 'delete-certificate') {
  const [z, id, chain] = rest;
  if (z !== '-Z' || chain !== keychain) fail(2, 'Usage: delete-certificate');
  const left = store.certificates.filter((each) => sha1(each.der) !== id);
  if (left.length === store.certificates.length) fail(44, 'Unable to delete certificate matching "' + id + '"');
  if (fs.existsSync(path.join(root, 'stuck'))) fail(1, 'security: SecKeychainItemDelete: UNIX[Operation timed out]');
  store.certificates = left;
  save();
  process.exit(0);
}
if (verb === 'find-certificate') {
  if (rest.join(' ') !== '-a -p ' + keychain) fail(2, 'Usage: find-certificate');
  for (const { der } of store.certificates) process.stdout.write(new X509Certificate(Buffer.from(der, 'base64')).toString());
  process.exit(0);
}
if (verb === 'trust-settings-export') {
  if (rest[0] !== '-d') fail(2, 'Usage: trust-settings-export');
  if (store.settings.length === 0) fail(1, 'SecTrustSettingsCreateExternalRepresentation: No Trust Settings were found.');
  const keys = store.settings.map((id) => '\\t\\t<key>' + id + '</key>\\n\\t\\t<dict/>').join('\\n');
  fs.writeFileSync(rest[1], '<?xml version="1.0"?>\\n<plist version="1.0">\\n<dict>\\n\\t<key>trustList</key>\\n\\t<dict>\\n' + keys + '\\n\\t</dict>\\n</dict>\\n</plist>\\n');
  process.exit(0);
}
fail(1, 'security: unknown command "' + verb + '"');
`;

export interface VendorStore {
  certificates: { der: string; name: string }[];
  settings: string[];
}

export function windowsMachine(): Scratch & { store(): VendorStore } {
  const machine = scratch('win32');
  machine.program('certutil', certutil);
  machine.program('powershell', powershell);
  return { ...machine, store: () => storeOf(machine) };
}

export function macMachine(): Scratch & { store(): VendorStore } {
  const machine = scratch('darwin');
  machine.program('security', security);
  return { ...machine, store: () => storeOf(machine) };
}

function storeOf(machine: Scratch): VendorStore {
  return machine.has('store.json') ? JSON.parse(machine.read('store.json')) : { certificates: [], settings: [] };
}
