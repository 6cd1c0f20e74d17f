export { type ClientCertificate, loadSdk, type Sdk } from './client.ts';
export { type ConnectOptions, connect } from './connect.ts';
export type { OnboardingDocument, TrustBundle, TrustedRoot } from './document.ts';
export { type DeviceErrorCode, GatepostDeviceError } from './errors.ts';
export { type JoinDocumentOptions, type JoinOptions, join, joinWithDocument } from './join.ts';
export { type ProbeOptions, type ProvenPeer, probeGateway } from './probe.ts';
