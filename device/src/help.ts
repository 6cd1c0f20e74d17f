export const generalHelp = `gatepost-device: the way in for a device behind an Azure IoT Edge transparent gateway

Usage
  gatepost-device join ...    fetch and check the trust and the credential of this device, once
  gatepost-device run ...     send telemetry from standard input through the gateway
  gatepost-device check ...   find out why the device does not connect, and how to cure it
  gatepost-device trust ...   install the roots in the system's store or for one program; see and remove them
  gatepost-device agent ...   act for a host that has the Azure IoT Identity Service; no key, no join
  gatepost-device COMMAND --help
  gatepost-device --version

How it goes
  1. The factory or an operator onboards the device with Gatepost and hands you three things: the address of the
     Gatepost API, a one-time join token, and the SHA-256 of the root certificate that your gateways chain to.
  2. On the device:
       export GATEPOST_JOIN_TOKEN=...
       gatepost-device join --api https://gatepost.example.net --root-sha256 9F86D0...
  3. From then on:
       my-sensor | gatepost-device run

A gateway's certificate chains to a private root, which Node does not know and does not look for in the system's store:
that is why the root is pinned, kept in the state folder and handed to the SDK as its only trust.

Exit codes
   0  done
   1  a fault of this program
   2  the command line does not read
   3  the state folder is missing, damaged or not writable
   4  the root has not the pinned SHA-256
   5  the gateway's certificate chain is not trusted (another root, an intermediate only, an incomplete chain)
   6  the gateway's certificate is for another host name
   7  a certificate has expired or is not valid yet: check the clock of this device first
   8  the gateway cannot be reached: DNS, network, port, or nothing answers (also: lines were left undelivered)
   9  the gateway does not accept the credential, or the credential has expired
  10  the Gatepost API cannot be reached, is not trusted, or failed
  11  the join token was not accepted: used, expired or foreign
  12  the document or the trust bundle does not read, or is older than what is installed
  13  the peer was not the gateway: nothing was sent
  14  not possible through a gateway
  15  agent: the services of the host are not there, refuse connections, or do not answer
  16  agent: this user is no principal, or its key handle is not taken
  17  agent: no identity: not provisioned, the cloud could not be asked, or a service failed
  18  agent: could not be installed
  19  trust: the system's trust store is unknown, may not be changed, or does not hold what it should
  20  check: there are warnings, and no errors
  21  check: there are errors

Environment
  GATEPOST_JOIN_TOKEN   the join token, so that it stands in no process list
  GATEPOST_STATE        the state folder, where --state does not say
  NODE_EXTRA_CA_CERTS   a private root for the Gatepost API's own certificate (a gateway's root never goes here)
`;

export function joinHelp(stateFolder: string): string {
  return `gatepost-device join: fetch and check the trust and the credential of this device

Usage
  gatepost-device join --api URL --root-sha256 HEX [--token-file FILE|-] [--state DIR]
  gatepost-device join --document FILE|- [--root-sha256 HEX] [--state DIR]

Over the network
  --api URL           the Gatepost API; https, or http on this machine
  --root-sha256 HEX   SHA-256 of the root certificate, as "openssl x509 -noout -fingerprint -sha256 -in root.pem" prints
                      it. It is what everything else is proven by: bring it by a way that nobody on the network can
                      change (a label, the factory image, a colleague)
  The join token comes from one of
    GATEPOST_JOIN_TOKEN in the environment (best)
    --token-file FILE, or - for standard input
    --token T           easy to try, but others on this machine see it in the process list

  It downloads the pinned root and compares its SHA-256 before it believes anything, checks the whole bundle against it,
  makes sure that it can store the result, and only then spends the token, which works once.

Without the network
  --document FILE     the onboarding document that the factory carried over (- for standard input). It holds the
                      device's credential: treat it as a secret. --root-sha256 is optional here, and checked if given

Both
  --state DIR         where to keep it. Default on this machine: ${stateFolder}
                      document.json (credential and trust), roots.pem (the roots, for other SDKs), origin.json; folder
                      mode 0700, files 0600. A bundle with a lower sequence than the stored one is refused

Examples
  GATEPOST_JOIN_TOKEN=... gatepost-device join --api https://gatepost.example.net --root-sha256 9F:86:D0:...
  gatepost-device join --document - --state /var/lib/gatepost-device < document.json

Exit codes are listed by gatepost-device --help.
`;
}

export function runHelp(stateFolder: string): string {
  return `gatepost-device run: send telemetry from standard input through the gateway

Usage
  some-program | gatepost-device run [--state DIR] [--protocol NAME] [--cert FILE --key FILE] [--wait SECONDS]
                                     [--flush SECONDS] [--spool DIR [--spool-limit BYTES]] [--listen]
                                     [--methods PROGRAM] [--log-format text|json]
  gatepost-device run --print-unit [--state DIR] > /etc/systemd/system/gatepost-device.service

  Each line of standard input is one JSON value, and becomes one message (contentType application/json, UTF-8, with a
  message id). A line that is not JSON, or longer than 255 KiB, is reported on standard error by its number and skipped.
  A slow gateway slows the reading down; nothing is dropped. Lines that were under way when the connection broke are sent
  again with the same message id. When the input ends, everything is delivered, the connection closed, and the exit code
  is 0. A message that the gateway refuses, or at which it cuts the connection, five times in a row is given up, with one
  line, so that it does not stop the others for ever.

  Before the SDK may speak, a TLS handshake proves that the gateway's chain ends in a trusted root and that its name is
  the one in the document. The SDK's own connections are held to the same, each time: what is not the gateway is refused
  before anything is sent. The Azure SDK by itself goes straight to the IoT Hub with some connection strings; this cannot.

Options
  --state DIR         what join filled. Default on this machine: ${stateFolder}
  --protocol NAME     mqtt (default), mqtt-ws, amqp or amqp-ws. The ports are those in the document; one that says null is
                      not served. WebSockets go through where only 443 is open. There is no http through a gateway
  --cert FILE         the client certificate (PEM, with its intermediates) of a device that authenticates with X.509
  --key FILE          its private key (PEM)
  --key-passphrase-file FILE
                      the passphrase of that key, where it has one
  --wait SECONDS      keep trying this long for the first connection. Default 0: the first fault ends the program, with
                      one line that names it and its exit code; with --spool, for ever
  --flush SECONDS     after the end of the input, keep trying this long to deliver what is left. Default 60
  --spool DIR         keep on disk what is not delivered yet: lines are read while the gateway is away, and survive the end
                      of this process at once and a power cut after a second. What is left is delivered by the next run.
                      Owner-only files; one process at a time
  --spool-limit BYTES at most so much (K, M, G; default 64M, at least 1M). The oldest lines are dropped beyond it, and
                      counted
  --listen            print what comes from the cloud, one JSON object a line on standard output:
                        {"kind":"message","id":...,"properties":{...},"body":...}   ("base64" where it is no text)
                        {"kind":"method","name":...,"requestId":...,"payload":...}
  --methods PROGRAM   answer direct methods: PROGRAM is started with the method's name as its parameter and the payload as
                      JSON on standard input; what it prints is JSON and the answer. Exit code 0 is status 200, another
                      one 500, more than 30 s 504; at most 4 at once, then 429. With --listen alone every method is
                      answered with 501; without either, none reaches this device
  --log-format NAME   text (default), or json: {"time","level","message","code"} a line on standard error
  --print-unit        print a hardened systemd unit for this installation, and end

What it keeps fresh, without being asked
  - A SAS token is replaced after half to three quarters of its time by one from the Gatepost API (joined over the network).
    While the API is away the old one is used; when it ends, one line says so, and the tries go on.
  - The trust bundle is fetched at its refresh hint, and taken from the twin's desired property gatepost.trust
    ({sequence, refreshHintSeconds, roots: [{sha256, pem}]}), so that a device without Internet learns new roots through
    its gateway. A lower sequence, an empty bundle, and a root that does not match its fingerprint are refused; the last
    good one stays. A new one is stored, connected with, and acknowledged in the reported property gatepost.trust
    ({sequence, installedAt, version}). Desired properties hold 32 KB in all and 4 KB a string: some 12 roots with RSA-4096
    keys, or 30 with P-256.
  - The gateway's name and ports are asked for once a day, and when the gateway is away or refuses: a device that was
    moved finds its new gateway by itself.

  Once connected, a lost connection is taken up again with exponential backoff, full jitter and a ceiling of 60 s. Five
  connections in a row that were accepted and soon cut are reported: most likely two clients use one identity.
  SIGINT and SIGTERM stop the reading, give what is under way 5 s, and close; a second one ends the program at once.

  Exit code 8 or 9 at the end of the input, with the number of lines, means that lines were left undelivered (with --spool:
  that they wait there).
  All exit codes are listed by gatepost-device --help.

Examples
  echo '{"temperature": 21.5}' | gatepost-device run
  tail -F readings.ndjson | gatepost-device run --spool /var/lib/gatepost-device/spool
  my-sensor | gatepost-device run --protocol amqp-ws --listen --methods /usr/local/bin/answer > from-the-cloud.ndjson
`;
}
