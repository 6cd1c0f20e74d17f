export function trustHelp(stateFolder: string, appFile: string): string {
  return `gatepost-device trust: let the system, or one program, trust the gateways

Usage
  gatepost-device trust install [--dry-run] [--gateway HOST[:PORT]] [SOURCE]     the store of the system; needs root
  gatepost-device trust install --app [--out FILE] [--sdk NAME] [SOURCE]         one file for programs; needs no root
  gatepost-device trust status [--json] [SOURCE]
  gatepost-device trust remove [--all] [--dry-run] [SOURCE]

Which of the two
  Node.js         does not look into the store of the system: --app. (run and connect() of gatepost-device need neither.)
  C, Python, Java take the roots as a file or text: --app. C with Schannel (Windows) looks into the store only
  .NET            looks into the store of the system
  mosquitto_pub, curl, openssl and most else look into the store of the system

SOURCE: the roots to trust
  --state DIR     what join stored; the default. On this machine: ${stateFolder}
                  (another one for root: after "join" as a user, name the folder when you use sudo)
  --bundle FILE   a trust bundle, as PEM or as the JSON that the Gatepost API serves
  --root FILE     one root, PEM or DER; may be repeated. An intermediate is refused: no client can trust by it

install
  Knows Debian, Ubuntu, RHEL, Fedora, Azure Linux, Alpine, openSUSE, Windows and macOS and their relatives, and does what the
  vendor documents. Then it reads the store back, whatever the tools reported, and proves the gateway by a TLS
  handshake that uses the store. A second install changes nothing and says so. What is named gatepost-... is Gatepost's.
  --dry-run       prints the exact commands and changes nothing
  --gateway HOST[:PORT]
                  the gateway to prove; the default is the one that join stored, which may be out of reach
  --app           writes the roots to one public file (0644), and prints what each SDK needs to use it
  --out FILE      that file. Default on this machine: ${appFile}
  --sdk NAME      node, c, python, java or dotnet: prints that snippet alone, the rest goes to standard error

status
  Lists what Gatepost installed: subject, SHA-256, days left, whether it is in the current bundle, and whether the system
  really trusts it. Exit code 19 where it does not.
  --json          one JSON object

remove
  Takes away the roots that Gatepost installed and that have left the bundle. Roots that anybody else installed stay.
  --all           everything that Gatepost installed

Examples
  sudo gatepost-device trust install
  sudo gatepost-device trust install --root root.pem --gateway gw.plant-1.example:8883
  gatepost-device trust install --app --out /etc/my-sensor/roots.pem --sdk python > trust.py

Exit codes are listed by gatepost-device --help: 19 where the store is unknown, may not be changed, or does not hold what it
should; 5 to 8 where the gateway could not be proven.
`;
}
