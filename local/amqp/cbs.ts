import type { Message } from 'rhea';
import { clientIdOf, type Identity } from '../mqtt/identity.ts';
import { identityOfAudience } from './addresses.ts';
import { AmqpError } from './errors.ts';
import { textOf } from './message.ts';

export interface PutToken {
  id: string;
  identity: Identity;
  token: string;
}

const tokenTypes = ['servicebus.windows.net:sastoken', 'azure-devices.net:sastoken'];

/**
 * Reads a put-token request. What it says is not judged here, a link's opening does that; but a token that has ended is not
 * even taken (Azure/iotedge, edge-hub Amqp CbsNode.cs; edge-util SharedAccessSignature.cs).
 *
 * @param audienceOf the audience of a token; undefined where it does not read as one or has ended.
 * @throws AmqpError with the text of the answer 400.
 */
export function readPutToken(message: Message, audienceOf: (token: string) => string | undefined): PutToken {
  const { operation, type, name } = message.application_properties ?? {};
  if (!tokenTypes.includes(String(type).toLowerCase())) throw badRequest('Cbs message missing Type property');
  if (typeof name !== 'string' || name === '') throw badRequest('Cbs message missing audience property');
  if (String(operation).toLowerCase() !== 'put-token') {
    throw badRequest('Cbs message missing operation value put-token');
  }
  const token: unknown = message.body;
  if (typeof token !== 'string' || token === '') throw badRequest('Cbs message does not contain a valid token');
  const audience = audienceOf(token);
  if (audience === undefined) throw badRequest('Cbs message does not contain a valid token');
  const identity = identityOfAudience(audience);
  if (identity === undefined) throw badRequest(`Matching template not found for audience amqps://${audience}`);
  return { id: clientIdOf(identity), identity, token };
}

export interface PutTokenAnswer {
  status: number;
  description: string;
}

/** The answer to a put-token request. */
export function putTokenAnswer(request: Message, { status, description }: PutTokenAnswer): Message {
  return {
    ...(request.message_id === undefined ? {} : { correlation_id: textOf(request.message_id) }),
    application_properties: { 'status-code': status, 'status-description': description },
    body: undefined,
  };
}

function badRequest(message: string): AmqpError {
  return new AmqpError('com.microsoft:argument-error', message);
}
