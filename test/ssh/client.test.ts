import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { type Socket, createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { dial } from '../../src/ssh/banner.js';
import {
  type ConnectOptions,
  type SshConnection,
  type SshTarget,
  connectSsh,
  verifyHostKey,
} from '../../src/ssh/client.js';
import { generateKeyPair } from '../../src/ssh/keys.js';
import { runCommand } from '../../src/util/exec.js';
import { waitFor } from '../../src/util/wait.js';
import { SshServer, type SshServerOptions } from '../support/ssh-server.js';
import { type Keys, calm, failureOf, newKeys, targetOf } from './guests.js';

let keys: Keys;
let server: SshServer;
let target: SshTarget;

async function serve(options: Partial<SshServerOptions> = {}): Promise<void> {
  server = await SshServer.start({
    hostKey: keys.host.privateKey,
    authorizedKeys: [keys.user.publicKey],
    ...options,
  });
  target = targetOf(server.endpoint, 'vm', keys);
}

function connect(changes: Partial<SshTarget> = {}, options: Partial<ConnectOptions> = {}): Promise<SshConnection> {
  return connectSsh({ ...target, ...changes }, { signal: calm, ...options });
}

async function until(condition: () => boolean): Promise<void> {
  const reached = await waitFor(async () => (condition() ? true : null), { timeoutMs: 4_000 });
  if (reached === null) throw new Error('that did not happen');
}

beforeEach(() => {
  keys = newKeys();
});

afterEach(async () => {
  vi.useRealTimers();
  await server[Symbol.asyncDispose]();
});

async function keyFile(...options: readonly string[]): Promise<string> {
  const path = join(server.root, `key-${Math.random()}`);
  await runCommand('ssh-keygen', ['-q', '-C', 'test', '-f', path, ...options]);
  const { stdout } = await runCommand('cat', [path]);
  return `${stdout}\n`;
}

/** The lists of algorithms that a client begins with (RFC 4253 7.1), as a server sees them. */
async function offers(): Promise<readonly (readonly string[])[]> {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const address = listener.address();
  if (address === null || typeof address === 'string') throw new Error('not a TCP port');
  const connection = new Promise<Socket>((resolve) => listener.once('connection', resolve));
  const asking = connection.then(async (socket) => {
    socket.write('SSH-2.0-test\r\n');
    let seen = Buffer.alloc(0);
    for await (const chunk of socket) {
      seen = Buffer.concat([seen, chunk]);
      const packet = seen.subarray(seen.indexOf('\n') + 1);
      if (packet.length > 4 && packet.length >= 4 + packet.readUInt32BE()) return nameLists(packet);
    }
    throw new Error('the client said nothing');
  });
  const failing = failureOf(connect({ endpoint: { host: '127.0.0.1', port: address.port } }));
  try {
    return await asking;
  } finally {
    await failing;
    listener.close();
  }
}

/** Behind the length of the packet and of its padding, the kind of message and the cookie. */
function nameLists(packet: Buffer): readonly (readonly string[])[] {
  const lists: string[][] = [];
  for (let at = 4 + 1 + 1 + 16; lists.length < 8; ) {
    const end = at + 4 + packet.readUInt32BE(at);
    lists.push(packet.toString('latin1', at + 4, end).split(','));
    at = end;
  }
  return lists;
}

describe('verifying the host key', () => {
  const verify = (changes: Partial<SshTarget> = {}, options: Partial<ConnectOptions> = {}): Promise<void> =>
    verifyHostKey({ ...target, ...changes }, { signal: calm, ...options });

  it('leaves a server that has the pinned one, and asks it for nothing', async () => {
    await serve();
    await verify();
    await until(() => server.connections === 1 && server.open === 0);
    expect(server.asked).toBe(0);
    await using connection = await connect();
    expect(await connection.exec('true')).toMatchObject({ exitCode: 0 });
    expect(server.asked).toBeGreaterThan(0);
  });

  it('takes no other one', async () => {
    await serve();
    const hostKey = { kind: 'pinned' as const, publicKey: newKeys().host.publicKey };
    await expect(verify({ hostKey })).rejects.toMatchObject({ code: 'SSH_HOST_KEY' });
    await until(() => server.open === 0);
  });

  it('fails where a login would be in vain', async () => {
    await serve();
    await expect(verify({ privateKeys: [] })).rejects.toMatchObject({ code: 'SSH_AUTHENTICATION' });
  });

  it('fails in time where nobody answers', async () => {
    await serve({ mode: 'hang' });
    await expect(verify({}, { timeoutMs: 50 })).rejects.toMatchObject({ code: 'SSH_TRANSPORT' });
    await until(() => server.open === 0);
  });
});

describe('logging in', () => {
  it('offers what ssh offers first, authenticated ciphers before the others, and nothing that is broken', async () => {
    await serve();
    const [keyExchanges, , toServer, fromServer, codes] = await offers();
    expect(toServer).toEqual([
      'aes128-gcm@openssh.com',
      'aes256-gcm@openssh.com',
      'chacha20-poly1305@openssh.com',
      'aes128-ctr',
      'aes192-ctr',
      'aes256-ctr',
    ]);
    expect(fromServer).toEqual(toServer);
    expect(keyExchanges?.slice(0, 2)).toEqual(['curve25519-sha256@libssh.org', 'curve25519-sha256']);
    // Against prefix truncation (CVE-2023-48795), which ChaCha20 needs.
    expect(keyExchanges).toContain('kex-strict-c-v00@openssh.com');
    expect(codes?.[0]).toBe('hmac-sha2-256-etm@openssh.com');
  });

  it('says that a key is protected by a passphrase', async () => {
    await serve();
    const privateKeys = [{ source: '~/.ssh/id_ed25519', key: await keyFile('-t', 'ed25519', '-N', 'secret') }];
    await expect(connect({ privateKeys })).rejects.toMatchObject({
      code: 'SSH_AUTHENTICATION',
      message: 'cannot log in as user "vm": ~/.ssh/id_ed25519 is protected by a passphrase',
      hint: 'vmctl does not ask for passphrases: use a key without one, or let the cloud-init block make one for this VM.',
    });
    expect(server.connections).toBe(0);
  });

  it.each([
    ['a public key', () => keys.user.publicKey, 'key is not a private key'],
    ['something else', () => 'hello', 'key is not a private key'],
  ])('says that %s cannot be used', async (_what, key, reason) => {
    await serve();
    await expect(connect({ privateKeys: [{ source: 'key', key: key() }] })).rejects.toMatchObject({
      code: 'SSH_AUTHENTICATION',
      message: `cannot log in as user "vm": ${reason}`,
    });
  });

  it('says that there is no key', async () => {
    await serve();
    await expect(connect({ privateKeys: [] })).rejects.toMatchObject({
      code: 'SSH_AUTHENTICATION',
      message: 'cannot log in as user "vm": there is no private key',
    });
  });

  it('passes over a key that cannot be used, and mentions it when the others are refused', async () => {
    await serve();
    const unusable = { source: 'broken', key: 'hello' };
    await using connection = await connect({ privateKeys: [unusable, ...target.privateKeys] });
    expect(await connection.exec('true')).toMatchObject({ exitCode: 0 });
    const other = { source: 'other', key: generateKeyPair('other').privateKey };
    await expect(connect({ privateKeys: [unusable, other] })).rejects.toMatchObject({
      message: expect.stringMatching(/ refuses the key other for user "vm"; not offered: broken is not a private key$/),
    });
  });

  it.each([
    ['rsa', ['-t', 'rsa', '-b', '2048']],
    ['ecdsa', ['-t', 'ecdsa']],
    ['PEM', ['-t', 'ecdsa', '-m', 'PEM']],
  ])('works with %s keys on both sides', async (_what, options) => {
    await serve();
    const key = await keyFile(...options, '-N', '');
    const path = join(server.root, 'both');
    await writeFile(path, key, { mode: 0o600 });
    const publicKey = (await runCommand('ssh-keygen', ['-y', '-f', path])).stdout;
    await using both = await SshServer.start({ hostKey: key, authorizedKeys: [publicKey] });
    await using connection = await connect({
      endpoint: both.endpoint,
      privateKeys: [{ source: 'key', key }],
      hostKey: { kind: 'pinned', publicKey },
    });
    expect(await connection.exec('exit 2')).toMatchObject({ exitCode: 2 });
  });

  it('says that the server has no key of the pinned type', async () => {
    await serve();
    const key = await keyFile('-t', 'ecdsa', '-N', '');
    await using other = await SshServer.start({ hostKey: key, authorizedKeys: [keys.user.publicKey] });
    await expect(connect({ endpoint: other.endpoint })).rejects.toMatchObject({
      code: 'SSH_HOST_KEY',
      message: expect.stringMatching(/: it has no ssh-ed25519 key, and the pinned host key is SHA256:\S{43}$/),
    });
  });

  it('offers nothing to a server with another host key', async () => {
    await serve();
    const hostKey = { kind: 'pinned', publicKey: generateKeyPair('pinned').publicKey } as const;
    await expect(connect({ hostKey })).rejects.toMatchObject({
      code: 'SSH_HOST_KEY',
      hint: 'Another machine answers on this port, or the image ignored the host key in its seed. Nothing was sent to it.',
    });
    expect(server.logins).toBe(0);
  });

  it('believes a server that is being given another host key with either, and with no third one', async () => {
    await serve();
    const [before, after] = [keys.host.publicKey, generateKeyPair('after').publicKey];
    for (const [publicKey, orElse] of [[before, after] as const, [after, before] as const]) {
      await using connection = await connect({ hostKey: { kind: 'pinned', publicKey, orElse } });
      expect(await connection.exec('exit 2')).toMatchObject({ exitCode: 2 });
    }
    const others = { kind: 'pinned', publicKey: after, orElse: generateKeyPair('third').publicKey } as const;
    await expect(connect({ hostKey: others })).rejects.toMatchObject({ code: 'SSH_HOST_KEY' });
  });

  it('does not learn the host key of a server that refuses the login', async () => {
    await serve();
    server.refuseLogins = 1;
    const onLearned = vi.fn<(publicKey: string) => void>();
    await expect(connect({ hostKey: { kind: 'learn', onLearned } })).rejects.toMatchObject({
      code: 'SSH_AUTHENTICATION',
    });
    expect(onLearned).not.toHaveBeenCalled();
  });

  it('fails when the learned host key cannot be kept', async () => {
    await serve();
    const onLearned = (): Promise<void> => Promise.reject(new Error('disk full'));
    await expect(connect({ hostKey: { kind: 'learn', onLearned } })).rejects.toThrow('disk full');
    await until(() => server.open === 0);
  });

  it('shows what the server said about the refusal', async () => {
    await serve({ banner: 'System is booting up. Unprivileged users are not permitted to log in yet.\n' });
    server.refuseLogins = 1;
    await expect(connect()).rejects.toMatchObject({
      code: 'SSH_AUTHENTICATION',
      details: 'System is booting up. Unprivileged users are not permitted to log in yet.',
    });
  });

  it.each([
    ['refuses', 'close', /Connection lost before handshake|ECONNRESET|closed the connection/],
    ['says nothing', 'hang', /nothing happened for 1 s$/],
  ] as const)('fails when the port %s', async (_what, mode, words) => {
    await serve({ mode });
    await expect(connect({}, { timeoutMs: 1_000 })).rejects.toMatchObject({
      code: 'SSH_TRANSPORT',
      message: expect.stringMatching(words),
    });
    await until(() => server.open === 0);
  });

  it('fails when nothing listens', async () => {
    await serve();
    const { endpoint } = server;
    await server[Symbol.asyncDispose]();
    await expect(connect()).rejects.toMatchObject({
      code: 'SSH_TRANSPORT',
      message: `cannot log in over SSH at 127.0.0.1:${endpoint.port}: connect ECONNREFUSED 127.0.0.1:${endpoint.port}`,
      fields: endpoint,
    });
    await serve();
  });

  it('stops at once when it is cancelled, and closes its connection', async () => {
    await serve({ mode: 'hang' });
    const controller = new AbortController();
    const connecting = connect({}, { signal: controller.signal });
    await until(() => server.open === 1);
    controller.abort();
    await expect(connecting).rejects.toMatchObject({ code: 'ABORTED' });
    await until(() => server.open === 0);
  });

  it('does not begin when it is cancelled already', async () => {
    await serve();
    await expect(connect({}, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' });
    expect(server.connections).toBe(0);
  });

  it('takes over a connection that is there already', async () => {
    await serve();
    const outcome = await dial(target.endpoint, { timeoutMs: 5_000, signal: calm });
    if (outcome.kind !== 'answered') throw new Error(outcome.kind);
    await using connection = await connect({}, { socket: outcome.socket });
    expect(await connection.exec('exit 6')).toMatchObject({ exitCode: 6 });
    expect(server.connections).toBe(1);
  });

  it('closes a connection that it was given and cannot use', async () => {
    await serve();
    const outcome = await dial(target.endpoint, { timeoutMs: 5_000, signal: calm });
    if (outcome.kind !== 'answered') throw new Error(outcome.kind);
    await expect(connect({ privateKeys: [] }, { socket: outcome.socket })).rejects.toThrow('no private key');
    await until(() => server.open === 0);
  });
});

describe('a connection', () => {
  it('says that the guest has no SFTP', async () => {
    await serve({ sftp: false });
    await using connection = await connect();
    await expect(connection.upload('/etc/hostname', 'x')).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: `the guest at 127.0.0.1:${target.endpoint.port} has no SFTP: Unable to start subsystem: sftp`,
    });
  });

  it('gives up a command that the guest never starts', async () => {
    await serve();
    await using connection = await connect();
    server.ignoreRequests = true;
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const failing = failureOf(connection.exec('true'));
    vi.advanceTimersByTime(30_000);
    expect(await failing).toMatchObject({
      code: 'SSH_TRANSPORT',
      message: `the guest at 127.0.0.1:${target.endpoint.port} did not start the command within 30 s`,
    });
    vi.useRealTimers();
  });

  it('sends nothing more for a file that it has closed because the upload was aborted', async () => {
    await serve();
    await using connection = await connect();
    const [large, small] = [join(server.root, 'large'), join(server.root, 'small')];
    await writeFile(large, Buffer.alloc(16 * 1024 * 1024));
    await writeFile(small, 'small');
    const controller = new AbortController();
    const options = { signal: controller.signal, onProgress: () => controller.abort() };
    await expect(connection.upload(large, 'large-copy', options)).rejects.toMatchObject({ code: 'ABORTED' });
    // Answered in order, so that everything sent before has been looked at by then.
    await connection.upload(small, 'small-copy');
    await connection.upload(small, 'small-copy');
    expect(server.strayRequests).toBe(0);
  });

  it('ends a command that was cancelled before it had started', async () => {
    await serve();
    await using connection = await connect();
    server.ignoreRequests = true;
    const controller = new AbortController();
    const waiting = connection.exec('true', { signal: controller.signal });
    controller.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'ABORTED' });
    await expect(connection.exec('true', { signal: controller.signal })).rejects.toMatchObject({ code: 'ABORTED' });
  });

  it('is given up when the guest hangs', async () => {
    await serve();
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    const connection = await connect();
    server.freeze();
    const failing = failureOf(connection.exec('true'));
    vi.advanceTimersByTime(20_000);
    expect(await failing).toMatchObject({
      code: 'SSH_TRANSPORT',
      message: expect.stringMatching(/broke off before the command could start: Keepalive timeout$/),
    });
    await connection.closed;
    vi.useRealTimers();
  });

  it('is closed soon although the guest hangs', async () => {
    await serve();
    const connection = await connect();
    server.freeze();
    await connection.close();
    await connection.closed;
    await expect(connection.exec('true')).rejects.toThrow(
      'broke off before the command could start: it was closed here',
    );
  });

  it('refuses a variable that no shell takes before anything is run', async () => {
    await serve();
    await using connection = await connect();
    await expect(connection.exec('true', { environment: { 'A;B': '1' } })).rejects.toMatchObject({ code: 'USAGE' });
    expect(server.commands).toEqual([]);
  });

  it('leaves nothing behind on the signal that many commands share', async () => {
    await serve();
    await using connection = await connect();
    const { signal } = new AbortController();
    const add = vi.spyOn(signal, 'addEventListener');
    const remove = vi.spyOn(signal, 'removeEventListener');
    for (let count = 0; count < 5; count += 1) await connection.exec('true', { signal });
    expect(add).toHaveBeenCalled();
    expect(remove.mock.calls.length).toBe(add.mock.calls.length);
  });
});
