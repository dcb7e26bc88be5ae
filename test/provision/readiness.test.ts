import { once } from 'node:events';
import { createServer } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { VmctlError } from '../../src/errors.js';
import { silentReporter } from '../../src/model/event.js';
import { type ReadinessOptions, waitUntilReady, waitUntilVerified } from '../../src/provision/readiness.js';
import { generateKeyPair } from '../../src/ssh/keys.js';
import { waitFor } from '../../src/util/wait.js';
import { type Keys, calm, newKeys, targetOf } from '../ssh/guests.js';
import { SshServer } from '../support/ssh-server.js';

let keys: Keys;
let server: SshServer;
let statuses: string[];

beforeEach(async () => {
  keys = newKeys();
  statuses = [];
  server = await SshServer.start({ hostKey: keys.host.privateKey, authorizedKeys: [keys.user.publicKey] });
});

afterEach(async () => {
  vi.useRealTimers();
  await server[Symbol.asyncDispose]();
});

function options(changes: Partial<ReadinessOptions> = {}): ReadinessOptions {
  const { user, privateKeys, hostKey } = targetOf(server.endpoint, 'vm', keys);
  return {
    name: 'web',
    locate: async () => server.endpoint,
    target: { user, privateKeys, hostKey },
    timeoutMs: 20_000,
    signal: calm,
    reporter: { ...silentReporter, status: (text) => statuses.push(text) },
    stillRunning: async () => true,
    consoleTail: async () => '',
    ...changes,
  };
}

async function until(condition: () => boolean): Promise<void> {
  const reached = await waitFor(async () => (condition() ? true : null), { timeoutMs: 10_000 });
  if (reached === null) throw new Error('that did not happen');
}

async function failure(
  changes: Partial<ReadinessOptions>,
  wait: (options: ReadinessOptions) => Promise<unknown> = waitUntilReady,
): Promise<VmctlError> {
  const error: unknown = await wait(options(changes)).then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof VmctlError)) throw new Error(`not an expected failure: ${String(error)}`);
  return error;
}

describe('a guest is ready', () => {
  it('as soon as its server answers, over the first connection', async () => {
    await using connection = await waitUntilReady(options());
    expect(await connection.exec('exit 3')).toMatchObject({ exitCode: 3 });
    expect(server.connections).toBe(1);
    const where = `127.0.0.1:${server.endpoint.port}`;
    expect(statuses).toEqual([`waiting for SSH on ${where}`, `SSH answers on ${where}, logging in`]);
  });

  it('whose login has worked before, as soon as it has shown its host key', async () => {
    server.mode = 'close';
    const waiting = waitUntilVerified(options());
    await until(() => server.connections >= 2);
    server.mode = 'serve';
    await waiting;
    await until(() => server.open === 0);
    expect(server.asked).toBe(0);
    expect(statuses.at(-1)).toBe(`SSH answers on 127.0.0.1:${server.endpoint.port}, verifying its host key`);
  });

  it.each(['close', 'hang'] as const)('soon after it listens, when connections before %s', async (mode) => {
    server.mode = mode;
    const waiting = waitUntilReady(options());
    await until(() => server.connections >= 3);
    server.mode = 'serve';
    const listening = performance.now();
    await using connection = await waiting;
    // Far less than this on a machine with nothing else to do; a hanging connection that is waited for takes 15 s.
    expect(performance.now() - listening).toBeLessThan(10_000);
    expect(await connection.exec('true')).toMatchObject({ exitCode: 0 });
    // Attempts that nobody needs any more are closed.
    await until(() => server.open === 1);
  });

  it('soon after its address is known', async () => {
    let known = false;
    const waiting = waitUntilReady(options({ locate: async () => (known ? server.endpoint : null) }));
    await until(() => statuses.includes("waiting for the guest's address"));
    known = true;
    await using connection = await waiting;
    expect(await connection.exec('true')).toMatchObject({ exitCode: 0 });
  });

  it('although its server takes its time to say who it is', async () => {
    server.delayMs = 1_500;
    await using connection = await waitUntilReady(options());
    expect(await connection.exec('true')).toMatchObject({ exitCode: 0 });
    expect(server.connections).toBeLessThanOrEqual(7);
  });

  it('without a second connection, if its network is up and only its server takes its time', async () => {
    server.delayMs = 400;
    await using connection = await waitUntilReady(options({ goesOn: true }));
    expect(await connection.exec('true')).toMatchObject({ exitCode: 0 });
    expect(server.connections).toBe(1);
  });

  it('although hanging connections pile up, of which only some are kept open', async () => {
    server.mode = 'hang';
    let most = 0;
    const waiting = waitUntilReady(options());
    await until(() => {
      most = Math.max(most, server.open);
      return server.connections >= 11;
    });
    server.mode = 'serve';
    await using connection = await waiting;
    expect(await connection.exec('true')).toMatchObject({ exitCode: 0 });
    expect(most).toBeLessThanOrEqual(9);
  });

  it('once the user exists, who was refused before', async () => {
    server.refuseLogins = 2;
    await using connection = await waitUntilReady(options());
    expect(await connection.exec('true')).toMatchObject({ exitCode: 0 });
    expect(statuses).toContain(`SSH on 127.0.0.1:${server.endpoint.port} refuses the key, trying again`);
  });

  it("once cloud-init has put our host key in the place of the image's own", async () => {
    const old = { hostKey: generateKeyPair('image').privateKey, authorizedKeys: [keys.user.publicKey] };
    await using before = await SshServer.start(old);
    let { endpoint } = before;
    const waiting = waitUntilReady(options({ locate: async () => endpoint }));
    await until(() => statuses.some((text) => text.includes('another host key')));
    ({ endpoint } = server);
    await using connection = await waiting;
    expect(await connection.exec('true')).toMatchObject({ exitCode: 0 });
    expect(before.logins).toBe(0);
  });

  it('although its connection broke off during a login', async () => {
    server.delayMs = 50;
    const waiting = waitUntilReady(options());
    await until(() => statuses.some((text) => text.includes('logging in')));
    server.drop();
    await using connection = await waiting;
    expect(await connection.exec('true')).toMatchObject({ exitCode: 0 });
  });
});

describe('the wait fails', () => {
  const consoleTail = async (): Promise<string> =>
    `${Array.from({ length: 30 }, (_, index) => `\u001b[32mline ${index}\u001b[0m\r`).join('\n')}\n`;
  const shownConsole = Array.from({ length: 20 }, (_, index) => `line ${index + 10}`).join('\n');

  it.each(['hang', 'close'] as const)('saying that there was no banner, when connections %s', async (mode) => {
    server.mode = mode;
    const error = await failure({ timeoutMs: 2_000, consoleTail });
    const why = mode === 'close' ? ' (the connection was closed at once)' : '';
    expect(error).toMatchObject({
      code: 'READY_TIMEOUT',
      message: `VM "web" was not ready within 2 s: no SSH banner on 127.0.0.1:${server.endpoint.port}${why}`,
      hint: 'If the guest is only slow, raise ssh { timeout }; to see what it does: vmctl log web --console',
      details: shownConsole,
      fields: { vm: 'web', timeoutMs: 2000 },
    });
    await until(() => server.open === 0);
  });

  it('saying that nothing listens', async () => {
    const { port } = server.endpoint;
    await server[Symbol.asyncDispose]();
    const error = await failure({ timeoutMs: 300, locate: async () => ({ host: '127.0.0.1', port }) });
    expect(error.message).toBe(
      `VM "web" was not ready within 0.3 s: no SSH banner on 127.0.0.1:${port} (connect ECONNREFUSED 127.0.0.1:${port})`,
    );
    server = await SshServer.start({ hostKey: keys.host.privateKey, authorizedKeys: [] });
  });

  it.each([
    [waitUntilReady, 'the login did not get through'],
    [waitUntilVerified, 'it did not show its host key'],
  ])('saying what is missing of a server that says who it is, and no more: %o', async (wait, missing) => {
    const mute = createServer((socket) => socket.on('error', () => {}).write('SSH-2.0-mute\r\n'));
    mute.listen(0, '127.0.0.1');
    await once(mute, 'listening');
    const address = mute.address();
    if (address === null || typeof address === 'string') throw new Error('it has no port');
    const { port } = address;
    const error = await failure({ timeoutMs: 2_000, locate: async () => ({ host: '127.0.0.1', port }) }, wait);
    mute.close();
    expect(error.message).toBe(`VM "web" was not ready within 2 s: SSH answers on 127.0.0.1:${port}, but ${missing}`);
  });

  it('saying that the key is refused', async () => {
    server.refuseLogins = Number.POSITIVE_INFINITY;
    const error = await failure({ timeoutMs: 3_000 });
    expect(error).toMatchObject({
      code: 'READY_TIMEOUT',
      message: `VM "web" was not ready within 3 s: SSH answers on 127.0.0.1:${server.endpoint.port}, but refuses the key for user "vm"`,
      hint: expect.stringMatching(
        /^Check the user in the ssh block, and that the image reads its seed \(cloud-init\)\. If /,
      ),
      fields: { lastError: 'SSH_AUTHENTICATION' },
    });
    expect(error.cause).toMatchObject({ code: 'SSH_AUTHENTICATION' });
  });

  it('saying that another host key is shown', async () => {
    const hostKey = { kind: 'pinned', publicKey: generateKeyPair('pinned').publicKey } as const;
    const error = await failure({ timeoutMs: 3_000, target: { ...options().target, hostKey } });
    expect(error).toMatchObject({
      code: 'READY_TIMEOUT',
      message: `VM "web" was not ready within 3 s: SSH answers on 127.0.0.1:${server.endpoint.port}, but with another host key`,
    });
  });

  it('saying that the address never became known, even if nobody answers', async () => {
    const message = 'VM "web" was not ready within 0.1 s: its address is not known yet';
    expect((await failure({ timeoutMs: 100, locate: async () => null })).message).toBe(message);
    expect((await failure({ timeoutMs: 100, locate: () => new Promise(() => {}) })).message).toBe(message);
  });

  it('when the console cannot be read as well', async () => {
    server.mode = 'hang';
    const error = await failure({ timeoutMs: 50, consoleTail: () => Promise.reject(new Error('gone')) });
    expect(error).toMatchObject({ code: 'READY_TIMEOUT', details: null });
  });

  it('when another host key is still shown after 30 s', async () => {
    const hostKey = { kind: 'pinned', publicKey: generateKeyPair('pinned').publicKey } as const;
    vi.useFakeTimers({ toFake: ['performance'] });
    const failing = failure({ target: { ...options().target, hostKey }, consoleTail });
    await until(() => statuses.some((text) => text.includes('another host key')));
    vi.advanceTimersByTime(30_000);
    expect(await failing).toMatchObject({
      code: 'SSH_HOST_KEY',
      message: expect.stringMatching(
        /^VM "web": the SSH server at \S+ is not the VM that was expected: it shows SHA256:/,
      ),
      hint: expect.stringMatching(/^Another machine answers on this port, or the image ignored the host key/),
      details: shownConsole,
    });
    expect(server.logins).toBe(0);
  });

  it('as soon as the VM has stopped', async () => {
    server.mode = 'hang';
    let running = true;
    const failing = failure({ stillRunning: async () => running, consoleTail });
    await until(() => server.connections > 0);
    running = false;
    expect(await failing).toMatchObject({
      code: 'VM_STATE',
      message: `VM "web" stopped while it was waited for: no SSH banner on 127.0.0.1:${server.endpoint.port}`,
      hint: 'See what it said: vmctl log web --console',
      details: shownConsole,
    });
  });

  it('at once when it is cancelled', async () => {
    server.mode = 'hang';
    const controller = new AbortController();
    const failing = failure({ signal: controller.signal });
    await until(() => server.open > 0);
    controller.abort();
    expect(await failing).toMatchObject({ code: 'ABORTED' });
    await until(() => server.open === 0);
    expect(await failure({ signal: AbortSignal.abort() })).toMatchObject({ code: 'ABORTED' });
  });

  it('at once when no key can be used', async () => {
    const privateKeys = [{ source: 'key', key: 'hello' }];
    const error = await failure({ target: { ...options().target, privateKeys } });
    expect(error).toMatchObject({ code: 'SSH_AUTHENTICATION' });
    expect(server.connections).toBe(0);
  });

  it.each(['locate', 'stillRunning'] as const)('with the error of the backend, when %s throws', async (which) => {
    server.mode = 'hang';
    const refuse = (): Promise<never> => Promise.reject(new VmctlError('QMP', 'no answer'));
    expect(await failure({ [which]: refuse })).toMatchObject({ code: 'QMP', message: 'no answer' });
    await until(() => server.open === 0);
  });
});
