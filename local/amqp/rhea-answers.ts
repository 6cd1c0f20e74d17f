import type { Connection, Receiver, Sender } from 'rhea';
import type { LinkKind } from './addresses.ts';
import type { AmqpCondition } from './errors.ts';

type Link = Receiver | Sender;

/** What this needs of the inside of rhea 3: endpoint.js and link.js. */
interface Inside {
  state: { open_requests: number };
  local: { attach: { max_message_size: number; snd_settle_mode: number; rcv_settle_mode: number } };
}

/**
 * To be called while rhea reports that an OPEN or an ATTACH came: the answer, which rhea would write at the next turn, waits
 * until the function that comes back is called. rhea answers at once, a hub only when it knows whom it talks to.
 */
export function holdAnswer(endpoint: Connection | Link): () => void {
  const { state } = endpoint as unknown as Inside;
  const connection = 'session' in endpoint ? (endpoint as Link).connection : (endpoint as Connection);
  state.open_requests -= 1;
  let isHeld = true;
  return () => {
    if (!isHeld) return;
    isHeld = false;
    state.open_requests += 1;
    connection._register();
  };
}

const settled = 1;
const second = 1;
/** The links on which nothing is sent twice, and what gets lost is lost (each LinkHandler's QualityOfService). */
const atMostOnce: LinkKind[] = ['methodRequests', 'methodResponses', 'twinRequests', 'twinAnswers'];

/** What the answer to an ATTACH says, before it is written. */
export function accept(link: Link, kind: LinkKind, maxBytes: number): void {
  const { attach } = (link as unknown as Inside).local;
  attach.max_message_size = Math.min(link.max_message_size || maxBytes, maxBytes);
  if (atMostOnce.includes(kind)) attach.snd_settle_mode = settled;
  if (kind === 'cloudToDevice') attach.rcv_settle_mode = second;
  if (link.source) link.set_source(link.source);
  if (link.target) link.set_target(link.target);
}

/**
 * An ATTACH that is refused is answered all the same, without a source or a target, and a DETACH with the reason follows
 * (AMQP 1.0, part 2, section 2.6.3; Azure/azure-amqp, AmqpLink.cs, OnLinkOpenFailed).
 */
export function refuse(link: Link, { condition, description }: AmqpCondition): void {
  link.close({ condition, description });
}
