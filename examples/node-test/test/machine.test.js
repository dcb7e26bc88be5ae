import assert from 'node:assert/strict';
import { test } from 'node:test';
import { vms } from 'vmctl/node-test';

const { machine } = await vms();

test('the machine has a kernel of its own', async () => {
  const { stdout } = await machine.exec('uname -s');
  assert.equal(stdout, 'Linux\n');
});

test('its user may become root', async () => {
  const { stdout } = await machine.exec('id -u', { user: 'root' });
  assert.equal(stdout, '0\n');
});
