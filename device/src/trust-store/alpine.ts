import { anchorFolder } from './anchor-folder.ts';
import type { Machine } from './machine.ts';
import type { TrustStore } from './store.ts';

/**
 * Alpine: the folder and the bundle of Debian, but a program of its own (update-ca.c of alpinelinux/ca-certificates). It
 * knows no options, drops links whose file is gone by itself, takes files of any name, and joins them byte by byte.
 * A fresh image has only ca-certificates-bundle, without the program.
 */
export function alpine(machine: Machine, system: string): TrustStore {
  return anchorFolder(machine, {
    system,
    folder: '/usr/local/share/ca-certificates',
    bundles: ['/etc/ssl/certs/ca-certificates.crt'],
    refresh: ['update-ca-certificates'],
    install: 'apk add ca-certificates',
  });
}
