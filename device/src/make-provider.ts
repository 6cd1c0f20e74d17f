import type { Client } from 'azure-iot-device';

/** Written so that the published declarations refer to azure-iot-device only, which a program has beside this package. */
type AuthenticationProvider = Parameters<typeof Client.fromAuthenticationProvider>[0];

/** Another way to prove who the client is; `gatewayHostName` is what the SDK makes its address from. */
export type MakeProvider = (
  sdk: { device: typeof import('azure-iot-device') },
  gatewayHostName: string,
) => AuthenticationProvider;
