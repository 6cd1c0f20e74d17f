export const agentHelp = `gatepost-device agent: act for this host through the Azure IoT Identity Service, without a secret on disk

Usage
  gatepost-device agent install --module NAME --user USER [--device] [--dry-run] [--uninstall] [--root DIR]
  gatepost-device agent identity [--sockets DIR] [--wait SECONDS]
  gatepost-device agent connection-string [--expiry SECONDS] [--certificate FILE] [--sockets DIR] [--wait SECONDS]
  some-program | gatepost-device agent run [--ca FILE] [--port N] [--protocol P] [--expiry SECONDS] [--wait SECONDS]
                                           [--flush SECONDS] [--sockets DIR]
  gatepost-device agent reprovision [--sockets DIR]

  Where aziot-identity-service runs (it comes with IoT Edge, and without it too), a program of the host needs no key of its
  own: the Identity Service says who it is, the Keys Service signs its tokens. The key never leaves that service.

install
  Makes what the Identity Service asks of an agent, as root, and nothing twice: the user and its group, the groups aziotid,
  aziotcs and aziotks, and /etc/aziot/identityd/config.d/NAME.toml (owner aziotid, mode 0600). identityd notices within
  10 s and makes the module NAME in the IoT Hub, with keys that are derived on this device. Do not make that module
  anywhere else: identityd would delete it and make it anew.
  --module NAME       the module's name
  --user USER         the user that the agent runs as, made if it is not there. One user is one agent
  --device            the agent acts as the device itself. It has more rights than a module, and only one program may be
                      connected as the device: better not
  --dry-run           print the commands, do nothing
  --uninstall         take away what install made, and no more; identityd then deletes the module
  --root DIR          work on the files below DIR, such as an image that is being made

identity
  Prints who this process is, as JSON: hub, gateway (null without one), deviceId, moduleId, generationId, auth.

connection-string
  Prints a connection string with a token that the Keys Service has signed. It is a secret until the token ends.
  GatewayHostName is in it where the device stands behind a gateway. Not every SDK heeds it beside a token: the Node SDK
  goes straight to the hub with such a string, which agent run and connectAgent() do not.
  --expiry SECONDS    how long the token is good for. Default 3600
  --certificate FILE  write the certificate there, where the device has X.509 (the string then says x509=true). Its private
                      key can be used through the OpenSSL engine aziot_keys, not from Node

run
  Like gatepost-device run: a line of JSON on standard input is a message. Tokens are renewed at three quarters of their
  life. When a connection is lost, all steps are taken again, from the identity on.
  --ca FILE           roots to trust, PEM. Default: the store of the system, which identityd trusts as well
                      (gatepost-device trust install puts a gateway's root there)
  --port N            where the gateway, or the hub, listens. Default: the usual port of the protocol
  --protocol P        mqtt (default), mqtt-ws, amqp or amqp-ws
  --expiry SECONDS    how long each token is good for. Default 3600

reprovision
  Has the device provisioned anew. For root, and for the daemon of IoT Edge.

All
  --sockets DIR       where identityd.sock, keyd.sock and certd.sock are. Default /run/aziot
  --wait SECONDS      keep trying this long for the services and the first connection. Default 0. An identity can take
                      minutes by itself while the cloud is away: identityd asks it first

Exit codes, beside those of gatepost-device --help
  15  the services of the host are not there, refuse connections, or do not answer
  16  this user is no principal, or the Keys Service does not take its handle
  17  no identity: the device is not provisioned, the cloud could not be asked, or a service failed
  18  could not be installed

Examples
  sudo gatepost-device agent install --module press-agent --user press-agent
  sudo -u press-agent gatepost-device agent identity
  tail -F readings.ndjson | sudo -u press-agent gatepost-device agent run --wait 3600
`;
