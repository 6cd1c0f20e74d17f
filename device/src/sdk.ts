// The only file that loads the device SDK. It is imported lazily, and becomes a bundle of its own: `join` and `--help`
// must not pay for it. It holds nothing of ours, so that no class of ours exists twice. The packages are CommonJS of
// which Node sees few named exports, hence the default imports.
import common from 'azure-iot-common';
import device from 'azure-iot-device';
import mqtt from 'azure-iot-device-mqtt';
import mqttBase from 'azure-iot-mqtt-base';

export { common, device, mqtt, mqttBase };
