import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { PropolisClient } from '../../../src/hypervisor/propolis/client.js';
import { openConsole } from '../../../src/hypervisor/propolis/console.js';
import { ensureRequest } from '../../../src/hypervisor/propolis/instance-spec.js';
import { quiet, vmSpec } from '../../support/fixtures.js';
import { FakePropolis } from '../../support/propolis-server.js';

async function startGuest(): Promise<FakePropolis> {
  const fake = await FakePropolis.start();
  const client = new PropolisClient({ address: fake.address, logFile: '/log' });
  const uuid = '3f0f4a2e-7c51-4d0e-9f0b-6d2d3a7f6c11';
  await client.ensure(ensureRequest(vmSpec(), { uuid, disk: '/disk', seed: null, vnic: null }));
  await client.change('Run');
  await fake.settle('Running');
  return fake;
}

/** Reads until the text has come. */
async function readUntil(stream: Duplex, wanted: string): Promise<string> {
  let text = '';
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    text += String(chunk);
    if (text.endsWith(wanted)) return text;
  }
  return `${text}(end)`;
}

describe('the serial console', () => {
  let guest: FakePropolis;
  const open = () => openConsole({ vm: 'web', address: guest.address, signal: quiet.signal });

  beforeEach(async () => {
    guest = await startGuest();
  });
  afterEach(async () => {
    await guest[Symbol.asyncDispose]();
  });

  test('begins with what was printed last, and passes bytes both ways', async () => {
    guest.print('Booting\r\nlogin: ');
    const console = await open();
    expect(await readUntil(console, 'login: ')).toBe('Booting\r\nlogin: ');
    console.write('root\r');
    expect(await readUntil(console, 'root\r')).toBe('root\r');
    guest.print('Passwörd: ');
    expect(await readUntil(console, ': ')).toBe('Passwörd: ');
    console.destroy();
    expect(guest.asked).toContain('UPGRADE /instance/serial?most_recent=16384');
  });

  test('begins with the last 16 KiB of a long story', async () => {
    guest.print(`${'x'.repeat(20_000)}end`);
    const console = await open();
    expect(await readUntil(console, 'end')).toHaveLength(16_384);
    console.destroy();
  });

  test('ends when the VM does', async () => {
    const console = await open();
    guest.instance?.powerOff();
    expect(await readUntil(console, 'never')).toBe('(end)');
  });

  test('ends when there is no VM any more, and when its server is killed', async () => {
    const console = await open();
    guest.instance?.powerOff();
    await guest.settle('Destroyed');
    const late = await open();
    expect(await readUntil(late, 'never')).toBe('(end)');
    console.destroy();
  });

  test('follows the VM to another server, without a gap and without a repetition', async () => {
    await using other = await startGuest();
    guest.print('one two ');
    const console = await open();
    expect(await readUntil(console, 'two ')).toBe('one two ');
    other.print('one two three ');
    guest.control(JSON.stringify({ Migrating: { destination: other.address, from_start: 8 } }));
    expect(await readUntil(console, 'three ')).toBe('three ');
    expect(other.asked).toContain('UPGRADE /instance/serial?from_start=8');
    guest.print('from nowhere ');
    console.write('four ');
    expect(await readUntil(console, 'four ')).toBe('four ');
    console.destroy();
  });

  test('leaves messages alone that it does not know', async () => {
    const console = await open();
    guest.control('{"Resized":{"columns":80}}');
    guest.control('no JSON');
    guest.print('still here');
    expect(await readUntil(console, 'here')).toBe('still here');
    console.destroy();
  });

  test('tells why the server closed it, where that is not the end of the VM', async () => {
    const console = await open();
    guest.closeConsoles(1011, 'out of memory');
    const [error] = await once(console, 'error');
    expect(error).toMatchObject({
      code: 'PROPOLIS',
      message: 'the serial console of VM "web" was closed by propolis-server: out of memory (code 1011)',
      hint: 'Attach again: vmctl console web',
    });
  });

  test('is let go of when the one who looks at it leaves', async () => {
    const console = await open();
    expect(guest.consoles).toBe(1);
    const left = guest.consoleLeft();
    console.destroy();
    await left;
    expect(guest.consoles).toBe(0);
  });

  test('that is not there is an error that says where it was looked for', async () => {
    const { address } = guest;
    await guest[Symbol.asyncDispose]();
    await expect(openConsole({ vm: 'web', address, signal: quiet.signal })).rejects.toMatchObject({
      code: 'PROPOLIS',
      message: expect.stringContaining(`the serial console of VM "web" cannot be reached at ${address}: `),
    });
    guest = await startGuest();
  });

  test('is not waited for by somebody who was interrupted', async () => {
    const attempt = openConsole({ vm: 'web', address: guest.address, signal: AbortSignal.abort() });
    await expect(attempt).rejects.toMatchObject({ code: 'ABORTED' });
  });
});
