import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { anchorFolder } from './anchor-folder.ts';
import { at, hasProgram, type Machine } from './machine.ts';
import type { Step } from './steps.ts';
import type { OwnRoot, TrustStore } from './store.ts';

const javaStore = '/etc/ssl/certs/java/cacerts';

/**
 * Debian, Ubuntu, Raspberry Pi OS: files that end in `.crt` in /usr/local/share/ca-certificates, one certificate each
 * (update-ca-certificates(8)).
 */
export function debian(machine: Machine, system: string): TrustStore {
  const store = anchorFolder(machine, {
    system,
    folder: '/usr/local/share/ca-certificates',
    bundles: ['/etc/ssl/certs/ca-certificates.crt'],
    refresh: ['update-ca-certificates'],
    // Without --fresh the links in /etc/ssl/certs to a deleted file stay behind, dangling: the script looks for orphans
    // only when it added or removed something else, and what a file in the local folder was is not among "removed".
    refreshAfterRemoval: ['update-ca-certificates', '--fresh'],
    install: 'apt-get install ca-certificates',
  });
  return {
    ...store,
    remove: async (roots) => [...(await removalFromJava(machine, roots)), ...(await store.remove(roots))],
  };
}

/**
 * For the same reason the hook of ca-certificates-java never hears that a local certificate is gone, and Java would trust
 * it for ever. It is found by its bytes, which a JKS store, as that package makes it, holds as they are.
 */
async function removalFromJava(machine: Machine, roots: OwnRoot[]): Promise<Step[]> {
  const path = at(machine, javaStore);
  const store = await readFile(path).catch(() => Buffer.alloc(0));
  const known = roots.filter(({ certificate }) => certificate !== undefined && store.includes(certificate.raw));
  if (known.length === 0 || !(await hasProgram(machine, 'keytool'))) return [];
  return known.map(({ mark }): Step => {
    // The hook names an entry after the link in /etc/ssl/certs; the password is that of every Java.
    const alias = `debian:${basename(mark, '.crt')}.pem`;
    const parameters = ['-delete', '-noprompt', '-keystore', path, '-storepass', 'changeit', '-alias', alias];
    return { kind: 'run', command: 'keytool', parameters };
  });
}
