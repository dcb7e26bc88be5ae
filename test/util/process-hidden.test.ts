import * as fs from 'node:fs/promises';
import { expect, test, vi } from 'vitest';
import { identifyProcess } from '../../src/util/process.js';

vi.mock('node:fs/promises', { spy: true });

test.each(['stat', 'boot_id'])('nobody is taken for dead when /proc/…/%s cannot be read', async (file) => {
  const real = await vi.importActual<typeof fs>('node:fs/promises');
  vi.mocked(fs.readFile).mockImplementation((path) => {
    const name = typeof path === 'string' ? path : '';
    if (!name.endsWith(`/${file}`)) return real.readFile(name, 'utf8');
    return Promise.reject(Object.assign(new Error('too many open files'), { code: 'EMFILE' }));
  });
  await expect(identifyProcess(process.pid)).rejects.toThrow('too many open files');
});
