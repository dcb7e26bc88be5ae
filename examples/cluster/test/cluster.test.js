import assert from 'node:assert/strict';
import { test } from 'node:test';
import { vms } from 'vmctl/node-test';

const { db, queue, web } = await vms();

async function uptime(vm) {
  const { stdout } = await vm.exec('cat /proc/uptime');
  return Number.parseFloat(stdout);
}

test('the web server was started after what it depends on', async () => {
  const web0 = await uptime(web);
  assert.ok((await uptime(db)) > web0);
  assert.ok((await uptime(queue)) > web0);
});

test('one machine reaches another by way of the host', async () => {
  // In a network of kind "user", the host's 127.0.0.1 is 10.0.2.2 for the guest.
  const { stdout } = await web.exec(['wget', '-qO-', `http://10.0.2.2:${db.port(80)}/rows.csv`]);
  assert.match(stdout, /pear/);
});
