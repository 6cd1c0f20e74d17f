// The only files that load the device SDK are this one and its two neighbours, one for each transport. They are imported
// lazily and become bundles of their own that share their chunks: `join` and `--help` must not pay for the SDK, and MQTT
// not for AMQP. They hold nothing of ours, so that no class of ours exists twice. The packages are CommonJS of which Node
// sees few named exports, hence the default imports.
import common from 'azure-iot-common';
import device from 'azure-iot-device';

export { common, device };
