import { anchorFolder } from './anchor-folder.ts';
import type { Machine } from './machine.ts';
import type { TrustStore } from './store.ts';

/**
 * Fedora, RHEL and those made of them (update-ca-trust(8)), and Azure Linux, formerly Mariner, which has the same tool
 * in a package of its own (toolkit/docs/security/ca-certificates.md of microsoft/azurelinux).
 */
export function redHat(machine: Machine, system: string, isAzureLinux: boolean): TrustStore {
  return anchorFolder(machine, {
    system,
    folder: '/etc/pki/ca-trust/source/anchors',
    // The second is a link to the first where both are there.
    bundles: ['/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem', '/etc/pki/tls/certs/ca-bundle.crt'],
    refresh: ['update-ca-trust', 'extract'],
    install: isAzureLinux ? 'tdnf install ca-certificates-tools' : 'dnf install ca-certificates',
  });
}
