import { spawn } from 'node:child_process';
import { reasonOf } from './errors.ts';

export interface ServiceManager {
  /** `READY=1`, once, and what is going on. */
  ready(status: string): void;
  status(status: string): void;
  stopping(status: string): void;
}

/**
 * Tells systemd how the service is, where it asks (`NOTIFY_SOCKET`). That is a datagram socket in the file system, of
 * which Node has none: systemd's own `systemd-notify` sends, which comes with every systemd. Since the sender is then a
 * child, the unit must say `NotifyAccess=all`.
 */
export function serviceManager(environment: NodeJS.ProcessEnv, log: (line: string) => void): ServiceManager {
  if (!environment.NOTIFY_SOCKET) return { ready() {}, status() {}, stopping() {} };
  let isReady = false;
  let isBroken = false;
  let queue: Promise<void> = Promise.resolve();
  let last = '';
  // One after the other: a READY that overtakes a STATUS would be undone by it.
  const send = (parameters: string[]) => {
    const key = parameters.join('\n');
    if (isBroken || key === last) return;
    last = key;
    queue = queue
      .then(() => (isBroken ? undefined : notify(parameters, environment)))
      .catch((error: unknown) => {
        isBroken = true;
        log(
          `systemd cannot be told how this service is: ${reasonOf(error)}. A unit of Type=notify will be taken for not started.`,
        );
      });
  };
  return {
    ready(status) {
      if (isReady) send([`--status=${status}`]);
      else send(['--ready', `--status=${status}`]);
      isReady = true;
    },
    status: (status) => send([`--status=${status}`]),
    stopping: (status) => send(['STOPPING=1', `STATUS=${status}`]),
  };
}

function notify(parameters: string[], env: NodeJS.ProcessEnv): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('systemd-notify', parameters, { env, stdio: 'ignore', timeout: 10_000 });
    child.unref();
    child.on('error', reject);
    child.on('close', (code) => (code === 0 ? resolve() : reject(new Error(`systemd-notify ended with ${code}`))));
  });
}

export interface UnitOptions {
  node: string;
  program: string;
  state: string;
}

/** A unit for a service that reads telemetry from a socket-activated or piped producer, with all the hardening that Node bears. */
export function systemdUnit({ node, program, state }: UnitOptions): string {
  return `# Made by: gatepost-device run --print-unit
# Replace my-sensor by the program that prints a line of JSON for each message. Then:
#   useradd --system --home-dir ${state} --shell /usr/sbin/nologin gatepost-device
#   install -d -m 0700 -o gatepost-device -g gatepost-device ${state}
#   runuser -u gatepost-device -- gatepost-device join --state ${state} ...
#   systemctl enable --now gatepost-device
[Unit]
Description=Telemetry through the IoT Edge gateway
Documentation=man:systemd.exec(5)
Wants=network-online.target time-sync.target
After=network-online.target time-sync.target

[Service]
# READY is sent when messages can be taken: with --spool at once, else with the first proven connection.
Type=notify
# systemd-notify sends it, a child of the service.
NotifyAccess=all
# A gateway that is away at boot is no reason to fail.
TimeoutStartSec=infinity
User=gatepost-device
Group=gatepost-device
ExecStart=/bin/sh -c 'my-sensor | exec ${node} ${program} run --state ${state} --spool ${state}/spool --log-format json'
Restart=on-failure
RestartSec=10
# 2: the command line, 3: the state folder, 14: not possible through a gateway. None of them mends itself.
RestartPreventExitStatus=2 3 14
# Delivers what was read, then the rest waits in the spool.
TimeoutStopSec=30
KillMode=mixed
UMask=0077
ReadWritePaths=${state}
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
LockPersonality=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# Not set: MemoryDenyWriteExecute. V8 compiles JavaScript to machine code while it runs.

[Install]
WantedBy=multi-user.target
`;
}
