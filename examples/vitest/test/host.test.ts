import { expect } from 'vitest';
import { test } from 'vmctl/vitest/test';

test('the machine is the one that was declared', async ({ vms }) => {
  const { stdout } = await vms.get('web').exec('hostname');
  expect(stdout.trim()).toBe('web');
});
