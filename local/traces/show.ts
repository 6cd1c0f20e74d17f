import type { ReceivedSpan } from './collector.ts';

const failed = 2;
const shownAttributes = ['status', 'outcome', 'attempts', 'throttled', 'waitMs'];

/**
 * A request and the calls that it made, each below the one it belongs to, as lines for a person:
 *
 *     onboardDevice  41 ms  status 201  (trace 4bf92f35…)
 *       +   2 ms  IoT Hub: PUT /devices/{id}  31 ms  ok
 */
export function showTrace(spans: readonly ReceivedSpan[]): string[] {
  const ids = new Set(spans.map(({ spanId }) => spanId));
  const roots = inOrder(spans.filter(({ parentSpanId }) => parentSpanId === undefined || !ids.has(parentSpanId)));
  return roots.flatMap((root) => [`${head(root)}  (trace ${root.traceId})`, ...below(root, root, spans, 1)]);
}

/** Gathers what arrives in pieces until the request's own span, the last to end, is there. */
export function traceGatherer(print: (line: string) => void): (spans: readonly ReceivedSpan[]) => void {
  const waiting = new Map<string, ReceivedSpan[]>();
  return (spans) => {
    for (const span of spans) waiting.set(span.traceId, [...(waiting.get(span.traceId) ?? []), span]);
    for (const [traceId, gathered] of waiting) {
      if (!gathered.some(isRequest)) continue;
      waiting.delete(traceId);
      for (const line of showTrace(gathered)) print(line);
    }
    // Calls outside of any request have none to wait for.
    for (const traceId of [...waiting.keys()].slice(0, Math.max(0, waiting.size - mostWaiting)))
      waiting.delete(traceId);
  };
}

const mostWaiting = 1_000;

function isRequest({ attributes = [] }: ReceivedSpan): boolean {
  return attributes.some(({ key }) => key === 'invocationId');
}

function below(root: ReceivedSpan, parent: ReceivedSpan, spans: readonly ReceivedSpan[], depth: number): string[] {
  const children = inOrder(spans.filter(({ parentSpanId }) => parentSpanId === parent.spanId));
  return children.flatMap((child) => {
    const after = String(Math.round(ms(child.startTimeUnixNano) - ms(root.startTimeUnixNano))).padStart(5);
    return [`${'  '.repeat(depth)}+${after} ms  ${head(child)}`, ...below(root, child, spans, depth + 1)];
  });
}

function head(span: ReceivedSpan): string {
  const took = Math.round(ms(span.endTimeUnixNano) - ms(span.startTimeUnixNano));
  const facts = shownAttributes.map((name) => [name, attributeOf(span, name)] as const).filter(isTold);
  const told = facts.map(([name, value]) => (name === 'outcome' ? String(value) : `${name} ${value}`));
  const fault = span.status?.code === failed && span.status.message !== undefined ? [`! ${span.status.message}`] : [];
  return [span.name, `${took} ms`, ...told, ...fault].join('  ');
}

/** One attempt without a wait is what one expects. */
function isTold([name, value]: readonly [string, unknown]): boolean {
  if (value === undefined || value === '0') return false;
  return name !== 'attempts' || value !== '1';
}

function attributeOf({ attributes = [] }: ReceivedSpan, name: string): string | undefined {
  const value = attributes.find(({ key }) => key === name)?.value;
  const [text] = value === undefined ? [] : Object.values(value);
  return text === undefined ? undefined : String(text);
}

function inOrder(spans: readonly ReceivedSpan[]): ReceivedSpan[] {
  return [...spans].sort((one, other) => ms(one.startTimeUnixNano) - ms(other.startTimeUnixNano));
}

function ms(nanoseconds: string): number {
  return Number(BigInt(nanoseconds) / 1000n) / 1000;
}
