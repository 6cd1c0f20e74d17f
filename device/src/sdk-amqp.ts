// See sdk.ts.
import amqpBase from 'azure-iot-amqp-base';
import amqp from 'azure-iot-device-amqp';

export { amqp, amqpBase };
