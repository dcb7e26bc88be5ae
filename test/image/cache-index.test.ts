import { readdir, stat } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { listCachedImages, noteUse, withUseLock } from '../../src/image/cache-index.js';
import { removeImage } from '../../src/image/cache-rests.js';
import { fetchImage } from '../../src/image/cache.js';
import { SharedWork } from '../../src/image/shared-work.js';
import { silentReporter } from '../../src/model/event.js';
import { putImage } from '../support/cached-image.js';
import { temporaryDirectory } from '../support/fixtures.js';
import { startHttpServer } from '../support/http-server.js';
import { gate } from '../support/rig.js';

test('an image is removed only if it is still unused under the lock that uses are noted under', async () => {
  await using directory = await temporaryDirectory();
  const path = await putImage(directory.path, 'https://example.org/a.raw', { unusedDays: 40 });
  const access = { directory: directory.path, command: 'test' };
  const seen = (await stat(`${path}.json`)).mtimeMs;
  const [held, go] = [gate(), gate()];
  const user = withUseLock(access, async () => {
    held.open();
    await go.passed;
    await noteUse(path);
  });
  await held.passed;
  const removal = removeImage(path, access, async (image) => image.lastUsedAt === seen);
  go.open();
  await user;
  expect(await removal).toBe(false);
  expect(await readdir(directory.path)).toHaveLength(2);
  expect(await removeImage(path, access, async () => true)).toBe(true);
  expect(await readdir(directory.path)).toEqual([]);
});

test('an image that is removed while somebody asks for it is downloaded again', async () => {
  await using directory = await temporaryDirectory();
  await using server = await startHttpServer();
  const content = Buffer.alloc(65_536, 3);
  server.serve('/a.raw', { body: content });
  const path = await putImage(directory.path, server.url('/a.raw'), { content, unusedDays: 40 });
  const access = { directory: directory.path, command: 'test' };
  const [held, go] = [gate(), gate()];
  const removal = removeImage(path, access, async () => {
    held.open();
    await go.passed;
    return true;
  });
  await held.passed;
  const fetched = fetchImage(
    { url: server.url('/a.raw'), checksum: null },
    {
      ...access,
      signal: new AbortController().signal,
      reporter: silentReporter,
      environment: {},
      shared: new SharedWork(),
    },
  );
  go.open();
  expect(await removal).toBe(true);
  expect(await fetched).toBe(path);
  expect(server.requests).toHaveLength(1);
  expect(await listCachedImages(directory.path)).toMatchObject([{ path }]);
});
