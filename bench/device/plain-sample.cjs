// What Microsoft's sample of a downstream device does (azure-iot-sdk-node, device/samples/javascript/edge_downstream_device.js),
// in the same order and with the same variables: a connection string, the root's PEM, open, send. One message, at once.
const fs = require('node:fs');
const { Client, Message } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');

const client = Client.fromConnectionString(process.env.IOTHUB_DEVICE_CONNECTION_STRING, Mqtt);

client.setOptions({ ca: fs.readFileSync(process.env.PATH_TO_EDGE_CA_CERT, 'utf-8') }, (error) => {
  if (error) throw error;
  client.open((error) => {
    if (error) throw error;
    client.sendEvent(new Message(JSON.stringify({ temperature: 21.5 })), (error) => {
      if (error) throw error;
    });
  });
});
