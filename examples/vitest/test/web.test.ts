import { expect } from 'vitest';
import { test } from 'vmctl/vitest/test';

test('the page is there', async ({ vms }) => {
  const web = vms.get('web');
  await web.waitFor({ http: { port: 80 } });
  const response = await fetch(`http://127.0.0.1:${web.port(80)}/`);
  expect(await response.text()).toContain('Served by a virtual machine');
});
