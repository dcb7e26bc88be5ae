import assert from 'node:assert/strict';
import { test } from 'node:test';
import { vms } from 'vmctl/node-test';

const { machine } = await vms();

test('the machine has a kernel of its own', async () => {
  const { stdout } = await machine.exec('uname -s');
  assert.equal(stdout, 'Linux\n');
});

test('it comes back after a reboot', async () => {
  const id = await machine.exec('cat /proc/sys/kernel/random/boot_id');
  const again = await machine.reboot();
  assert.notEqual((await again.exec('cat /proc/sys/kernel/random/boot_id')).stdout, id.stdout);
});
