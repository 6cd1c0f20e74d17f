export function checkHelp(stateFolder: string): string {
  return `gatepost-device check: find out why a device does not connect, or that it does

Usage
  gatepost-device check [--state DIR] [--connect | --no-connect]
                        [--cert FILE --key FILE] [--json]
  gatepost-device check --gateway HOST[:PORT] --ca ROOTS.pem [--json]

It looks at these, in this order, and changes nothing:
  state         the state folder, its document and its permissions
  clock         this clock against the API's, or else against what cannot be
  dns           the name of the gateway
  ports         TCP: MQTT 8883, AMQP 5671, WebSockets 443, or what is recorded
  tls           the handshake, and every certificate that was really sent
  chain         whether it ends in a root of the bundle
  name          the host name against the certificate
  expiry        the dates of the whole chain; warns 30 and 7 days before, and at
                80 % of a life
  edge-ca       CA:TRUE, keyCertSign, key ids, a name other than the host's
  verification  what OpenSSL itself says of the chain
  credential    the shape of a key, the window of a token, a certificate and its
                key
  identity      whether the API has this device behind this gateway
  connect       whether the gateway lets it in (MQTT CONNECT)
  peer          that it is the gateway, and not the IoT Hub
  agreement     that document, connection string and API name one gateway

How to read it
  A check that builds on a broken one is not run: it would only report
  consequences. What is independent is run all the same. So every error is a
  cause, and "First cause" is where to begin. Each fault has a code that never
  changes, one sentence of cause, one of cure, and a command that shows it
  without this program. docs/troubleshooting.md lists them all.

  edgeHub answers one and the same CONNACK to an unknown, a disabled, an
  unlinked device and to a wrong key. "identity" asks the API in its place,
  with the same credential; where the API cannot be reached, the likely reasons
  are listed in their order.

Being let in
  A CONNECT with the identity of a running client ends that client's
  connection: it comes back by itself, but it was away. So by default none is
  sent while something on this machine is connected to the gateway, nor where
  the system does not tell (it does on Linux, within a container for that
  container).
  --connect       send it in any case
  --no-connect    never send it

Options
  --state DIR     what join filled. Default on this machine:
                  ${stateFolder}
  --cert FILE, --key FILE, --key-passphrase-file FILE
                  of a device that authenticates with X.509, as for run
  --gateway HOST[:PORT]
                  look at this gateway without any state: name, ports,
                  TLS, chain
  --ca FILE       the roots to trust then (PEM)
  --json          for machines: one JSON object, described by
                  docs/check-report.schema.json
  --verbose       also tell in full what is well
  --timeout SECONDS
                  for each thing that is waited for. Default 5
  NO_COLOR in the environment turns colours off; only a terminal gets them.
  No key, token or password is ever printed.

Exit codes
   0  well, but for remarks
  20  there are warnings, and no errors
  21  there are errors
   1  a fault of this program
   2  the command line does not read

Examples
  gatepost-device check
  gatepost-device check --json | jq -r .firstCause
  gatepost-device check --gateway gw-1.plant.example.net --ca root.pem
`;
}
