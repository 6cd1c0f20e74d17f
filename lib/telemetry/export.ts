import { metrics, trace } from '@opentelemetry/api';

/** Sends spans and metrics away until it is stopped. */
export interface Export {
  /** Sends what is still there. */
  stop(): Promise<void>;
}

const metricsEveryMs = 60_000;

/**
 * Begins to send spans and metrics to a collector by OTLP over HTTP. The SDK is loaded now, and reads its own environment
 * variables: `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_SCHEDULE_DELAY` and the others. Nothing is patched:
 * the spans are those that the code makes itself, so it works in one bundled file.
 */
export async function startExport(endpoint: string): Promise<Export> {
  const [
    { BasicTracerProvider, BatchSpanProcessor },
    { MeterProvider, PeriodicExportingMetricReader },
    resources,
    traces,
    meters,
  ] = await Promise.all([
    import('@opentelemetry/sdk-trace-base'),
    import('@opentelemetry/sdk-metrics'),
    import('@opentelemetry/resources'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/exporter-metrics-otlp-http'),
  ]);
  const base = endpoint.replace(/\/+$/, '');
  const resource = resources.resourceFromAttributes({ 'service.name': 'gatepost' });
  const spans = new BatchSpanProcessor(new traces.OTLPTraceExporter({ url: `${base}/v1/traces` }));
  const tracing = new BasicTracerProvider({ resource, spanProcessors: [spans] });
  const reader = new PeriodicExportingMetricReader({
    exporter: new meters.OTLPMetricExporter({ url: `${base}/v1/metrics` }),
    exportIntervalMillis: metricsEveryMs,
  });
  const metering = new MeterProvider({ resource, readers: [reader] });
  trace.setGlobalTracerProvider(tracing);
  metrics.setGlobalMeterProvider(metering);
  return {
    async stop() {
      await Promise.allSettled([tracing.shutdown(), metering.shutdown()]);
    },
  };
}
