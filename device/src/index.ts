export { type ConnectOptions, connect } from './connect.ts';
export type { OnboardingDocument, TrustBundle, TrustedRoot } from './document.ts';
export { type DeviceErrorCode, GatepostDeviceError } from './errors.ts';
export { type JoinDocumentOptions, type JoinOptions, join, joinWithDocument } from './join.ts';
export { loadSdk } from './load-sdk.ts';
export { type ProbeOptions, type ProvenPeer, probeGateway } from './probe.ts';
export type { ClientCertificate } from './session.ts';
