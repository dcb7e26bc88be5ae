import { once } from 'node:events';
import { Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { gatherWrites } from '../../src/ssh/gathered-writes.js';

/** What reaches the system, one entry for each call. */
function sink(): { readonly stream: Writable; readonly calls: string[] } {
  const calls: string[] = [];
  const stream = new Writable({
    writev(chunks, done) {
      calls.push(chunks.map(({ chunk }) => String(chunk)).join('|'));
      done();
    },
    write(chunk, _encoding, done) {
      calls.push(String(chunk));
      done();
    },
  });
  gatherWrites(stream);
  return { stream, calls };
}

test('what one piece of code writes goes out together, before anything else happens', async () => {
  const { stream, calls } = sink();
  for (const part of ['length', 'content', 'code']) stream.write(part);
  await new Promise<void>((resolve) => process.nextTick(resolve));
  expect(calls).toEqual(['length|content|code']);
  stream.write('next');
  stream.write('packet');
  await new Promise<void>((resolve) => process.nextTick(resolve));
  expect(calls).toEqual(['length|content|code', 'next|packet']);
});

test('what was written before the end is not lost', async () => {
  const { stream, calls } = sink();
  stream.write('good');
  stream.end('bye');
  await once(stream, 'finish');
  expect(calls.join('|')).toBe('good|bye');
});

test('whoever writes is called back, and told when there is too much', async () => {
  const { stream } = sink();
  await new Promise<void>((resolve) => stream.write('a', () => resolve()));
  expect(stream.write(Buffer.alloc(stream.writableHighWaterMark))).toBe(false);
});
