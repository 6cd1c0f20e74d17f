import { anchorFolder } from './anchor-folder.ts';
import type { Machine } from './machine.ts';
import type { TrustStore } from './store.ts';

/**
 * openSUSE and SLES: named as Debian's tool, but built on p11-kit, with another folder (README of
 * openSUSE/ca-certificates). In a transactional update (TRANSACTIONAL_UPDATE=true) it does nothing and reports success:
 * one of the reasons why the store is read back.
 */
export function suse(machine: Machine, system: string): TrustStore {
  return anchorFolder(machine, {
    system,
    folder: '/etc/pki/trust/anchors',
    bundles: ['/var/lib/ca-certificates/ca-bundle.pem', '/etc/ssl/ca-bundle.pem'],
    refresh: ['update-ca-certificates'],
    install: 'zypper install ca-certificates',
  });
}
