/**
 * The `azure-iot-device` package as it comes with this one, for what a program needs beside the client: `Message` to
 * send telemetry, `DeviceMethodResponse`, `Twin`.
 */
export async function loadSdk(): Promise<typeof import('azure-iot-device')> {
  return (await import('./sdk.ts')).device;
}
