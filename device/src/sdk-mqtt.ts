// See sdk.ts.
import mqtt from 'azure-iot-device-mqtt';
import mqttBase from 'azure-iot-mqtt-base';

export { mqtt, mqttBase };
