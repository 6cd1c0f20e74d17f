import { expect, it } from 'vitest';
import { vaultRootStore } from '../../../lib/azure/vault.ts';
import { goodRoot } from '../../support/certificates.ts';
import { startDoubles } from '../../support/doubles.ts';

// In a file of its own, since the SDK keeps tokens of a managed identity for the whole process.
it('a Key Vault that the app may not write to is told of as a missing role assignment', async () => {
  const doubles = await startDoubles({ vaultRoles: ['Key Vault Reader'] });
  try {
    const { certificate: pem } = await goodRoot();
    const tags = { name: 'a', sha256: 'a', notAfter: '2036-01-01T00:00:00.000Z', state: 'active' };
    await expect(vaultRootStore(doubles).put('root-a', { pem, authority: undefined }, tags)).rejects.toMatchObject({
      code: 'upstream_refused',
      status: 502,
      detail: expect.stringContaining('role assignments'),
    });
  } finally {
    await doubles.close();
  }
});
