import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';

/** A span as OTLP's JSON encoding has it (opentelemetry-proto, trace.proto), as far as it is shown. */
export interface ReceivedSpan {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  /** Nanoseconds since 1970, too many for a number. */
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes?: { key: string; value: Record<string, unknown> }[];
  events?: { name: string; timeUnixNano: string; attributes?: ReceivedSpan['attributes'] }[];
  status?: { code?: number; message?: string };
}

export interface Collector {
  /** What goes into OTEL_EXPORTER_OTLP_ENDPOINT. */
  endpoint: string;
  close(): Promise<void>;
}

interface TraceRequest {
  resourceSpans?: { scopeSpans?: { spans?: ReceivedSpan[] }[] }[];
}

/** Takes traces by OTLP over HTTP in its JSON encoding, and forgets metrics (opentelemetry.io, "OTLP Specification", OTLP/HTTP). */
export async function startCollector(take: (spans: ReceivedSpan[]) => void): Promise<Collector> {
  const server = createServer(async (request, response) => {
    const answer = (status: number) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end('{}');
    };
    if (request.method !== 'POST' || !/^\/v1\/(traces|metrics|logs)$/.test(request.url ?? '')) return answer(404);
    if (!/^application\/json\b/.test(request.headers['content-type'] ?? '')) return answer(415);
    try {
      const body = JSON.parse(await bodyOf(request)) as TraceRequest;
      const spans = (body.resourceSpans ?? []).flatMap(({ scopeSpans = [] }) =>
        scopeSpans.flatMap((each) => each.spans ?? []),
      );
      if (spans.length > 0) take(spans);
      answer(200);
    } catch {
      answer(400);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const bytes = Buffer.concat(chunks);
  return (request.headers['content-encoding'] === 'gzip' ? gunzipSync(bytes) : bytes).toString('utf8');
}
