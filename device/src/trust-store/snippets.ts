export const sdks = ['node', 'c', 'python', 'java', 'dotnet'] as const;

/** A device SDK of Azure IoT. */
export type Sdk = (typeof sdks)[number];

/** What a program with this SDK needs to trust the gateway, as code that reads the PEM at `path`. */
export function snippet(sdk: Sdk, path: string): string[] {
  // A JSON string is a string literal in each of these languages.
  return snippets[sdk](JSON.stringify(path)).trim().split('\n');
}

// Apart from the text, so that a search for what the published files import does not find the snippet.
const nodeSdk = 'azure-iot-device';

const snippets: Record<Sdk, (path: string) => string> = {
  // README of azure-iot-device and its sample edge_downstream_device.js.
  node: (path) => `
// Node.js, azure-iot-device. Node does not look into the system's store: hand the file over, before open().
const { readFileSync } = require('node:fs');
const { Client } = require('${nodeSdk}');
const { Mqtt } = require('${nodeSdk}-mqtt');

const client = Client.fromConnectionString(process.env.CONNECTION_STRING, Mqtt);
client.setOptions({ ca: readFileSync(${path}, 'utf8') }, (error) => {
  if (error) throw error;
  client.open((failed) => console.log(failed ? String(failed) : 'connected'));
});
// Only a connection string with SharedAccessKey keeps its GatewayHostName in this SDK; with SharedAccessSignature or
// x509 it goes to the hub. connect() of gatepost-device keeps it always, and needs no file.
// Where the program cannot be changed, set this before it starts (added to the roots that Node brings along):
//   NODE_EXTRA_CA_CERTS=${path}
`,
  // iothub_client/samples/iotedge_downstream_device_sample of azure-iot-sdk-c.
  c: (path) => `
/* C, azure-iot-sdk-c. The option takes the text of the PEM, not its path, and is set before the first send. */
#include <stdio.h>
#include <stdlib.h>
#include "iothub_device_client_ll.h"
#include "azure_c_shared_utility/shared_util_options.h"

static char* read_roots(void)
{
    FILE* file = fopen(${path}, "rb");
    if (file == NULL) return NULL;
    (void)fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char* text = size < 0 ? NULL : calloc(1, (size_t)size + 1);
    if (text != NULL && fread(text, 1, (size_t)size, file) != (size_t)size) { free(text); text = NULL; }
    (void)fclose(file);
    return text;
}

int trust_gateway(IOTHUB_DEVICE_CLIENT_LL_HANDLE device)
{
    char* roots = read_roots();
    IOTHUB_CLIENT_RESULT result = roots == NULL ? IOTHUB_CLIENT_ERROR
        : IoTHubDeviceClient_LL_SetOption(device, OPTION_TRUSTED_CERT, roots);
    free(roots); /* the SDK keeps a copy */
    return result == IOTHUB_CLIENT_OK ? 0 : 1;
}
/* Built with Schannel, as on Windows by default, it needs the machine's store instead: gatepost-device trust install. */
`,
  // IoTHubDeviceClient.create_from_connection_string of azure-iot-device 2.
  python: (path) => `
# Python, azure-iot-device 2. The parameter takes the text of the PEM, not its path, and replaces the system's roots.
import os
from azure.iot.device import IoTHubDeviceClient

with open(${path}, encoding="ascii") as file:
    roots = file.read()

client = IoTHubDeviceClient.create_from_connection_string(
    os.environ["CONNECTION_STRING"], server_verification_cert=roots
)
client.connect()
`,
  // ClientOptions.sslContext of iot-device-client 2: "will still be used during SSL negotiation" with SAS.
  java: (path) => `
// Java, com.microsoft.azure.sdk.iot:iot-device-client 2. The SDK trusts the roots of IoT Hub unless it gets a context.
import java.io.FileInputStream;
import java.io.InputStream;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

final class GatewayTrust {
    static SSLContext sslContext() throws Exception {
        KeyStore roots = KeyStore.getInstance(KeyStore.getDefaultType());
        roots.load(null, null);
        try (InputStream file = new FileInputStream(${path})) {
            int number = 0;
            for (Certificate root : CertificateFactory.getInstance("X.509").generateCertificates(file)) {
                roots.setCertificateEntry("gatepost-" + number++, root);
            }
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(roots);
        SSLContext context = SSLContext.getInstance("TLSv1.2");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }
}
// ClientOptions options = ClientOptions.builder().sslContext(GatewayTrust.sslContext()).build();
// DeviceClient client = new DeviceClient(connectionString, IotHubClientProtocol.MQTT, options);
`,
  // RemoteCertificateValidationCallback of MqttTransportSettings; X509ChainPolicy.CustomTrustStore came with .NET 5.
  dotnet: (path) => `
// .NET 5 or newer, Microsoft.Azure.Devices.Client 1. It uses the system's store by itself (gatepost-device trust install);
// this is for a program that must not touch it.
using System;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using Microsoft.Azure.Devices.Client;
using Microsoft.Azure.Devices.Client.Transport.Mqtt;

var roots = new X509Certificate2Collection();
roots.ImportFromPemFile(${path});

var settings = new MqttTransportSettings(TransportType.Mqtt_Tcp_Only)
{
    RemoteCertificateValidationCallback = (sender, certificate, chain, errors) =>
    {
        // A wrong host name stays an error: only the question of the root is answered anew.
        if ((errors & ~SslPolicyErrors.RemoteCertificateChainErrors) != SslPolicyErrors.None) return false;
        if (certificate is null || chain is null) return false;
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.CustomTrustStore.AddRange(roots);
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        return chain.Build(new X509Certificate2(certificate));
    },
};
var client = DeviceClient.CreateFromConnectionString(
    Environment.GetEnvironmentVariable("CONNECTION_STRING"), new ITransportSettings[] { settings });
await client.OpenAsync();
`,
};
