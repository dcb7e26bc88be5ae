import { expect, test } from 'vitest';
import { fittingHint } from '../../src/cli/login-hint.js';
import { VmctlError } from '../../src/errors.js';

const refused = new VmctlError('SSH_AUTHENTICATION', 'refused', {
  hint: 'Check the ssh block.',
  details: 'banner',
  fields: { user: 'vm' },
});

test('a refused login to a VM of create speaks of the options of create, and of no block in a VMFile', () => {
  const told = fittingHint(refused, { name: 'x', project: null, cloudInit: null });
  expect(told).toMatchObject({ message: 'refused', details: 'banner', fields: { user: 'vm' } });
  expect(told.hint).toContain('--ssh-key');
  expect(told.hint).toContain('vmctl console x');
  expect(told.hint).not.toContain('block');
});

test('other errors, and VMs of a VMFile, keep their hint', () => {
  const lost = new VmctlError('SSH_TRANSPORT', 'lost');
  expect(fittingHint(lost, { name: 'x', project: null, cloudInit: null })).toBe(lost);
  expect(fittingHint(refused, { name: 'x', project: '/VMFile.kdl', cloudInit: null })).toBe(refused);
});
