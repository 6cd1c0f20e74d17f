import { GatepostError } from '../errors.ts';
import { childrenOf, type KnownGateway, knownGateway } from './gateway-cache.ts';
import { gatewayIdOfScope } from './ids.ts';
import type { Registry, TwinRecord } from './registry.ts';

/** Layers of Edge devices that edgeHub follows (ServiceIdentityTree.MaxNestingDepth). */
const mostLayers = 5;

/**
 * The gateway that another one is to stand behind. Throws what keeps it from being one (`gateway_not_found`, `..._not_edge`,
 * `..._not_configured`, `..._disabled`), `gateway_cycle`, or `gateway_too_deep` counting the layers below too.
 *
 * @param child the twin of the gateway that moves; undefined when it is yet to be made.
 */
export async function checkedParent(
  registry: Registry,
  id: string,
  parentId: string,
  child: TwinRecord | undefined,
): Promise<KnownGateway> {
  if (parentId === id) throw new GatepostError('gateway_cycle', 'A gateway cannot stand behind itself.');
  const twin = await registry.twin(parentId);
  const parent = knownGateway(parentId, twin);
  if (parent.status === 'disabled') {
    throw new GatepostError('gateway_disabled', `Enable the gateway ${parentId} before putting another behind it.`);
  }
  // Linked so already: whatever holds of the tree held when it was linked.
  if (twin === undefined || child?.parentScopes[0] === parent.scope) return parent;
  const above = await layersUpFrom(registry, twin, id);
  const below =
    child?.deviceScope === undefined ? 0 : await layersBelow(registry, child.deviceScope, mostLayers - above);
  if (above + 1 + below > mostLayers) {
    const detail = `Behind ${parentId} the gateway would make a chain of more than ${mostLayers} layers, which edgeHub does not follow.`;
    throw new GatepostError('gateway_too_deep', detail);
  }
  return parent;
}

/** How many layers there are from a gateway up to the top, itself included. */
async function layersUpFrom(registry: Registry, from: TwinRecord, movedId: string): Promise<number> {
  let layers = 1;
  let scope = from.parentScopes[0];
  for (; scope !== undefined && layers <= mostLayers; layers += 1) {
    const id = gatewayIdOfScope(scope);
    if (id === movedId) {
      throw new GatepostError('gateway_cycle', `${from.deviceId} stands behind ${movedId}: move it elsewhere first.`);
    }
    const twin = id === undefined ? undefined : await registry.twin(id);
    // The parent above was deleted or made anew: the chain ends here.
    if (twin?.deviceScope !== scope) break;
    scope = twin.parentScopes[0];
  }
  return layers;
}

/** How many layers of gateways stand behind a scope; no more are looked for than make a difference. */
async function layersBelow(registry: Registry, scope: string, atMost: number): Promise<number> {
  let layers = 0;
  for (let level = [scope]; level.length > 0 && layers <= atMost; ) {
    const next: string[] = [];
    for (const each of level) next.push(...(await edgeScopesBehind(registry, each)));
    if (next.length > 0) layers += 1;
    level = next;
  }
  return layers;
}

async function edgeScopesBehind(registry: Registry, scope: string): Promise<string[]> {
  const scopes: string[] = [];
  let continuation: string | undefined;
  do {
    const page = await registry.queryTwins(`capabilities.iotEdge = true AND ${childrenOf(scope)}`, {
      size: 1000,
      ...(continuation === undefined ? {} : { continuation }),
    });
    for (const row of page.rows) if (row.deviceScope !== undefined) scopes.push(row.deviceScope);
    continuation = page.continuation;
  } while (continuation !== undefined);
  return scopes;
}
