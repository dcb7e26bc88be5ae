import { describe, expect, test } from 'vitest';
import { PropolisClient } from '../../../src/hypervisor/propolis/client.js';
import { ensureRequest } from '../../../src/hypervisor/propolis/instance-spec.js';
import { vmSpec } from '../../support/fixtures.js';
import { startHttpServer } from '../../support/http-server.js';
import { FakePropolis } from '../../support/propolis-server.js';

const PARTS = { uuid: '3f0f4a2e-7c51-4d0e-9f0b-6d2d3a7f6c11', disk: '/dev/zvol/rdsk/d', seed: null, vnic: 'vnic0' };
const REQUEST = ensureRequest(vmSpec(), PARTS);
const LOG = '/vms/web/propolis.log';

const clientOf = (address: string, signal?: AbortSignal) =>
  new PropolisClient({ address, logFile: LOG, ...(signal === undefined ? {} : { signal }) });

describe('a client of propolis-server', () => {
  test('makes a VM, starts it, reads what it printed, and stops it', async () => {
    await using fake = await FakePropolis.start();
    const client = clientOf(fake.address);
    expect(await client.isThere()).toBe(true);
    expect(await client.instance()).toBeNull();
    await client.ensure(REQUEST);
    expect(await client.instance()).toEqual({ id: PARTS.uuid, state: 'Creating' });
    await client.change('Run');
    await fake.settle('Running');
    expect(await client.instance()).toEqual({ id: PARTS.uuid, state: 'Running' });
    fake.print('first\nlast\n');
    expect(await client.history(6)).toEqual({ bytes: new Uint8Array(Buffer.from('last\n')), end: 11 });
    expect(await client.history('last-mebibyte')).toMatchObject({ bytes: { length: 11 }, end: 11 });
    expect(await client.history(11)).toMatchObject({ bytes: { length: 0 }, end: 11 });
    await client.change('Stop');
    await fake.settle('Destroyed');
    expect(await client.instance()).toEqual({ id: PARTS.uuid, state: 'Destroyed' });
    expect(await client.history(0)).toBeNull();
  });

  test('is told that the server has forgotten what was printed between the first bytes and the last ones', async () => {
    await using fake = await FakePropolis.start();
    const client = clientOf(fake.address);
    await client.ensure(REQUEST);
    const mebibyte = 1024 ** 2;
    fake.print('x'.repeat(3 * mebibyte));
    expect(await client.history(mebibyte - 5)).toMatchObject({ bytes: { length: 5 }, end: mebibyte });
    expect(await client.history(mebibyte)).toBe('forgotten');
    const part = { bytes: { length: 65_536 }, end: 2 * mebibyte + 65_536 };
    expect(await client.history('last-mebibyte')).toMatchObject(part);
  });

  test('names a version with every request', async () => {
    await using server = await startHttpServer();
    for (const path of ['/instance', '/instance/state', '/instance/serial/history'])
      server.serve(path, { status: 500 });
    const client = clientOf(server.host);
    await client.isThere();
    const all = [
      client.instance(),
      client.ensure(REQUEST),
      client.change('Run'),
      client.change('Stop'),
      client.history(1),
    ];
    await Promise.allSettled(all);
    expect(server.requests).toHaveLength(6);
    for (const { headers } of server.requests) expect(headers['api-version']).toBe('1.0.0');
  });

  test('takes any answer for a sign of life, and asks nothing twice', async () => {
    await using server = await startHttpServer();
    server.serve('/instance', { status: 503, body: 'busy' });
    expect(await clientOf(server.host).isThere()).toBe(true);
    await expect(clientOf(server.host).instance()).rejects.toMatchObject({ fields: { status: 503 } });
    expect(server.requests).toHaveLength(2);
  });

  test('says what was refused in the words of the server, with the id of the request', async () => {
    await using fake = await FakePropolis.start({ holds: ['Stopped'] });
    const client = clientOf(fake.address);
    await client.ensure(REQUEST);
    await client.change('Stop');
    await expect(client.change('Run')).rejects.toMatchObject({
      code: 'PROPOLIS',
      message: 'propolis-server refused to start the VM: Instance is preparing to stop (HTTP 403)',
      hint: 'Wait for what is under way and try again.',
      fields: { status: 403, requestId: expect.stringMatching(/^[0-9a-f-]{36}$/), address: fake.address },
    });
  });

  test.each([
    ['before there is one', 424, 'start the VM: Server not initialized (no instance) (HTTP 424)', 'The VM has ended.'],
    ['that is there already', 409, 'make the VM: instance already initialized (HTTP 409)', 'Another program'],
    [
      'whose disk is missing',
      500,
      'make the VM: Internal Server Error (HTTP 500)',
      `The server wrote the reason into ${LOG}`,
    ],
  ])('tells why nothing comes of a VM %s', async (_what, status, message, hint) => {
    await using fake = await FakePropolis.start();
    const client = clientOf(fake.address);
    const missing = ensureRequest(vmSpec(), { ...PARTS, disk: '/nonexistent' });
    if (status === 409) await client.ensure(REQUEST);
    const attempt = status === 424 ? client.change('Run') : client.ensure(status === 409 ? REQUEST : missing);
    await expect(attempt).rejects.toMatchObject({
      code: 'PROPOLIS',
      message: `propolis-server refused to ${message}`,
      hint: expect.stringContaining(hint),
      fields: { status },
    });
  });

  test('says which version it speaks to a server that does not know it', async () => {
    await using server = await startHttpServer();
    const body = JSON.stringify({ request_id: 'one', message: 'server does not support this API version: 1.0.0' });
    server.serve('/instance', { status: 400, body });
    await expect(clientOf(server.host).instance()).rejects.toMatchObject({
      message: 'propolis-server refused to tell of the VM: server does not support this API version: 1.0.0 (HTTP 400)',
      hint: 'vmctl speaks version 1.0.0 of its interface: install a propolis-server that serves it.',
      fields: { requestId: 'one' },
    });
  });

  test.each(['no JSON', '{"instance":{}}', '{"instance":{"properties":{"id":"x"},"state":"Dreaming"}}'])(
    'does not take %s for an answer',
    async (body) => {
      await using server = await startHttpServer();
      server.serve('/instance', { body });
      await expect(clientOf(server.host).instance()).rejects.toMatchObject({
        code: 'PROPOLIS',
        message: expect.stringContaining('propolis-server was to tell of the VM and answered something else: '),
        fields: { answer: body },
      });
    },
  );

  test('says where it looked for a server that is not there', async () => {
    const fake = await FakePropolis.start();
    const { address } = fake;
    await fake[Symbol.asyncDispose]();
    expect(await clientOf(address).isThere()).toBe(false);
    await expect(clientOf(address).instance()).rejects.toMatchObject({
      code: 'PROPOLIS',
      message: expect.stringContaining(`propolis-server cannot be reached at ${address}: `),
      hint: `Its own words are in ${LOG}`,
    });
  });

  test('gives up when it is told to, and when no answer comes in time', async () => {
    await using server = await startHttpServer();
    server.serve('/instance', { body: 'never', stallAfter: 0 });
    const controller = new AbortController();
    const asked = clientOf(server.host, controller.signal).instance();
    await server.requested(1);
    controller.abort();
    await expect(asked).rejects.toMatchObject({ code: 'ABORTED' });
    const impatient = new PropolisClient({ address: server.host, logFile: LOG, timeoutMs: 50 });
    await expect(impatient.instance()).rejects.toMatchObject({ code: 'PROPOLIS' });
  });
});
