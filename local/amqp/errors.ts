/** An AMQP error, as it stands in a detach, a close or a rejected outcome. */
export interface AmqpCondition {
  condition: string;
  description: string;
}

/** A refusal that a device is told. */
export class AmqpError extends Error implements AmqpCondition {
  readonly condition: string;

  constructor(condition: string, message: string) {
    super(message);
    this.name = 'AmqpError';
    this.condition = condition;
  }

  get description(): string {
    return this.message;
  }
}

/** What the AMQP library under edgeHub makes of an InvalidOperationException (Azure/azure-amqp, Framing/Error.cs). */
export function notAllowed(message: string): AmqpError {
  return new AmqpError('amqp:not-allowed', message);
}

/** The condition that stands for an HTTP status (Azure/iotedge, edge-hub Amqp AmqpErrorMapper.cs, as far as it knows one). */
export function ofStatus(status: number): AmqpError {
  return new AmqpError(conditions.get(status) ?? 'amqp:internal-error', `status ${status}`);
}

const conditions = new Map([
  [400, 'com.microsoft:argument-error'],
  [401, 'amqp:unauthorized-access'],
  [403, 'amqp:resource-limit-exceeded'],
  [404, 'amqp:not-found'],
  [412, 'com.microsoft:precondition-failed'],
  [413, 'amqp:link:message-size-exceeded'],
  [429, 'com.microsoft:device-container-throttled'],
  [503, 'com.microsoft:timeout'],
  [504, 'com.microsoft:timeout'],
]);
