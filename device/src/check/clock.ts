import type { Check } from './context.ts';
import { defineCodes, finder } from './findings.ts';
import { isWrong } from './observe/clock.ts';

export const clockCodes = defineCodes({
  clock_ok: {
    severity: 'ok',
    cause: 'The clock of this device is {seconds} s off that of {source}.',
    cure: 'Nothing needs to be done.',
    command: 'date -u; curl -sI {api} | grep -i ^date',
  },
  clock_unproven: {
    severity: 'info',
    cause: 'Nothing speaks against the clock of this device ({now}), and there is no other to compare it with: {why}.',
    cure: 'Compare it yourself if a certificate below is said to have expired, or not to have begun.',
    command: 'date -u; timedatectl',
  },
  clock_drifting: {
    severity: 'warning',
    cause: 'The clock of this device is {seconds} s {direction} that of {source}: IoT Edge and IoT Hub tolerate 300 s.',
    cure: 'Have the clock set by NTP (systemd-timesyncd, chrony), from the gateway where there is no Internet.',
    command: 'date -u; curl -sI {api} | grep -i ^date; timedatectl',
  },
  clock_off: {
    severity: 'error',
    cause:
      'The clock of this device is {seconds} s {direction} that of {source}: certificates and tokens look expired, or not begun.',
    cure: 'Set the clock, and have it kept by NTP; the certificates and tokens below are judged by the right time.',
    command: 'date -u; curl -sI {api} | grep -i ^date; timedatectl',
  },
  clock_behind: {
    severity: 'error',
    cause:
      'The clock of this device says {now}, which is before {evidence}: it was reset, as after a power cut without a battery.',
    cure: 'Set the clock, and have it kept by NTP; dates of certificates and tokens cannot be judged before.',
    command: 'date -u; timedatectl',
  },
  clock_suspect: {
    severity: 'error',
    cause:
      'By the clock of this device ({now}) the whole chain of the gateway has expired, the trusted root included: {evidence}.',
    cure: 'Compare the clock with another one first; if it is right, the root must be renewed and handed out again.',
    command: 'date -u; openssl x509 -noout -dates -in {roots}',
  },
});

const found = finder(clockCodes);

const unremarkable = 30;

export const clockCheck: Check = {
  name: 'clock',
  title: 'the clock of this device',
  needs: ['state'],
  ownOnly: false,
  async run({ common, observe }) {
    const reading = await observe.clock();
    const now = observe.localTime().toISOString();
    if ('unproven' in reading) return [found('clock_unproven', common, { now, why: reading.unproven })];
    if ('impossible' in reading) {
      const { impossible, evidence, why } = reading;
      const code = impossible === 'behind' ? 'clock_behind' : 'clock_suspect';
      return [found(code, common, { now, evidence }, [`there is no other clock: ${why}`])];
    }
    const off = reading.offsetMs / 1000;
    const seconds = Math.abs(off) < 10 ? Math.abs(off).toFixed(1) : Math.round(Math.abs(off));
    const values = { seconds, source: reading.source, direction: off > 0 ? 'behind' : 'ahead of' };
    const right = `here ${now}, there ${new Date(Date.parse(now) + reading.offsetMs).toISOString()}`;
    if (isWrong(reading)) return [found('clock_off', common, values, [right])];
    if (Math.abs(off) > unremarkable) return [found('clock_drifting', common, values, [right])];
    return [found('clock_ok', common, values)];
  },
};
