import { Buffer } from 'node:buffer';
import { randomBytes } from 'node:crypto';
import { access, chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ExecOptions, type SshConnection, connectSsh } from '../../src/ssh/client.js';
import { generateKeyPair } from '../../src/ssh/keys.js';
import { waitFor } from '../../src/util/wait.js';
import { GUESTS, type Guest, calm, connectTo, failureOf } from './guests.js';

interface Collected {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number | null;
  readonly signal: string | null;
}

async function collect(connection: SshConnection, command: string, options: ExecOptions = {}): Promise<Collected> {
  const [out, err]: [Buffer[], Buffer[]] = [[], []];
  const result = await connection.exec(command, {
    ...options,
    onStdout: (chunk) => out.push(chunk),
    onStderr: (chunk) => err.push(chunk),
  });
  return { ...result, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() };
}

async function there(path: string): Promise<true | null> {
  try {
    await access(path);
    return true;
  } catch {
    return null;
  }
}

describe.each(GUESTS)('against $name', ({ start }) => {
  let guest: Guest;
  let connection: SshConnection;
  let local: string;

  beforeAll(async () => {
    guest = await start();
    connection = await connectTo(guest);
    local = await mkdtemp(join(tmpdir(), 'vmctl-upload-'));
    await writeFile(join(local, 'a'), 'a');
  }, 30_000);

  afterAll(async () => {
    await connection?.close();
    await guest?.[Symbol.asyncDispose]();
    if (local !== undefined) await rm(local, { recursive: true, force: true });
  });

  describe('a command', () => {
    it('gives its output, its errors and its exit code', async () => {
      expect(await collect(connection, 'echo out; echo err >&2; exit 3')).toEqual({
        stdout: 'out\n',
        stderr: 'err\n',
        exitCode: 3,
        signal: null,
      });
    });

    it('tells the signal that ended it', async () => {
      expect(await connection.exec('kill -9 $$')).toEqual({ exitCode: null, signal: 'SIGKILL' });
    });

    it('finds its input at its end when there is none', async () => {
      expect(await collect(connection, 'cat; echo over')).toMatchObject({ stdout: 'over\n', exitCode: 0 });
    });

    it.each([
      ['text', 'grüße'],
      ['bytes', Buffer.from('grüße')],
      ['a stream', Readable.from([Buffer.from('grü'), Buffer.from('ße')])],
    ])('reads %s', async (_what, stdin) => {
      expect(await collect(connection, 'cat', { stdin })).toMatchObject({ stdout: 'grüße', exitCode: 0 });
    });

    it('passes a megabyte through both ways unchanged', async () => {
      const bytes = randomBytes(3 * 1024 * 1024);
      const back: Buffer[] = [];
      await connection.exec('cat', { stdin: bytes, onStdout: (chunk) => back.push(chunk) });
      expect(Buffer.concat(back).equals(bytes)).toBe(true);
    });

    it('may end without reading its input', async () => {
      const endless = new Readable({ read: () => {} });
      endless.push('first');
      expect(await connection.exec('exit 4', { stdin: endless })).toEqual({ exitCode: 4, signal: null });
      expect(await connection.exec('exit 5', { stdin: randomBytes(8 * 1024 * 1024) })).toEqual({
        exitCode: 5,
        signal: null,
      });
    });

    it('takes its environment whatever the server accepts, quotes and line breaks included', async () => {
      const value = `it's "quoted" $HOME \`id\` \\ *\n second line; exit 9`;
      const result = await collect(connection, 'printf %s "$TEST_VALUE"', { environment: { TEST_VALUE: value } });
      expect(result).toMatchObject({ stdout: value, exitCode: 0 });
    });

    it('runs beside others', async () => {
      const barrier = join(guest.home, 'barrier');
      const waits = connection.exec('while [ ! -e barrier ]; do sleep 0.02; done');
      await connection.exec('touch barrier');
      expect(await waits).toMatchObject({ exitCode: 0 });
      await rm(barrier);
    });

    it('is ended when it is aborted', async () => {
      const controller = new AbortController();
      const failing = failureOf(connection.exec('echo $$ > aborted.pid; sleep 600', { signal: controller.signal }));
      await waitFor(() => there(join(guest.home, 'aborted.pid')), { timeoutMs: 10_000 });
      controller.abort();
      expect(await failing).toMatchObject({ code: 'ABORTED' });
      const gone = await connection.exec('while kill -0 $(cat aborted.pid); do sleep 0.02; done', {
        timeoutMs: 10_000,
      });
      expect(gone.exitCode).toBe(0);
    });

    it('is ended when it takes too long, even if it ignores being told, and another can follow', async () => {
      const running = collect(connection, "trap '' TERM; while :; do sleep 0.1; done", { timeoutMs: 100 });
      await expect(running).rejects.toMatchObject({
        code: 'TIMEOUT',
        message: 'the command did not end within 0.1 s',
      });
      expect(await connection.exec('exit 6')).toMatchObject({ exitCode: 6 });
    });
  });

  describe('an upload', () => {
    it.each([0, 1, 128 * 1024, 3 * 1024 * 1024 + 17])('of %i bytes arrives unchanged', async (size) => {
      const bytes = randomBytes(size);
      await writeFile(join(local, 'sized'), bytes);
      await connection.upload(join(local, 'sized'), 'sized');
      expect((await readFile(join(guest.home, 'sized'))).equals(bytes)).toBe(true);
    });

    it.each([0o755, 0o600, 0o444])('keeps the mode %o, over another one too', async (mode) => {
      const path = join(local, `mode-${mode}`);
      await writeFile(path, 'x');
      await chmod(path, mode);
      await connection.exec('echo a longer text that was there before > moded; chmod 666 moded');
      await connection.upload(path, 'moded');
      expect((await stat(join(guest.home, 'moded'))).mode & 0o777).toBe(mode);
      expect(await readFile(join(guest.home, 'moded'), 'utf8')).toBe('x');
      await writeFile(path, 'y');
      await connection.upload(path, 'moded');
      expect(await readFile(join(guest.home, 'moded'), 'utf8')).toBe('y');
      await rm(join(guest.home, 'moded'));
    });

    it('takes another mode when it is given one', async () => {
      await writeFile(join(local, 'script'), 'true');
      await connection.upload(join(local, 'script'), 'script', { mode: 0o700 });
      expect((await stat(join(guest.home, 'script'))).mode & 0o777).toBe(0o700);
    });

    it('writes through a symbolic link', async () => {
      await connection.exec('echo old > pointed-at; ln -s pointed-at link');
      await writeFile(join(local, 'new'), 'new');
      await connection.upload(join(local, 'new'), 'link');
      expect(await readFile(join(guest.home, 'pointed-at'), 'utf8')).toBe('new');
    });

    it('tells how far it is, up to the end', async () => {
      const told: [number, number][] = [];
      const size = 1024 * 1024;
      await writeFile(join(local, 'big'), randomBytes(size));
      await connection.upload(join(local, 'big'), 'big', { onProgress: (bytes, total) => told.push([bytes, total]) });
      expect(told.length).toBeGreaterThan(4);
      expect(told.at(-1)).toEqual([size, size]);
      expect(told.map(([bytes]) => bytes)).toEqual([...told.map(([bytes]) => bytes)].toSorted((a, b) => a - b));
    });

    it('copes with names that a shell would not', async () => {
      const name = ` -"it's" $(id) *.txt`;
      await writeFile(join(local, name), 'odd');
      await connection.upload(join(local, name), name);
      expect(await readFile(join(guest.home, name), 'utf8')).toBe('odd');
    });

    it('says that the folder is missing in the guest', async () => {
      await expect(connection.upload(join(local, 'a'), 'no/such/a')).rejects.toMatchObject({
        code: 'TRANSFER_FAILED',
        message: expect.stringMatching(
          /^cannot upload \S+ to no\/such\/a: No such file.* \(the folder no\/such does not exist in the guest\)$/,
        ),
        hint: 'Create no/such first.',
      });
    });

    it('says that the destination is a folder', async () => {
      await mkdir(join(guest.home, 'folder'));
      await expect(connection.upload(join(local, 'a'), 'folder')).rejects.toMatchObject({
        code: 'TRANSFER_FAILED',
        message: `cannot upload ${join(local, 'a')} to folder: the destination is a folder`,
        hint: 'Name the file: folder/a',
      });
    });

    it('says that the local file is missing or no file', async () => {
      await expect(connection.upload(join(local, 'absent'), 'x')).rejects.toMatchObject({
        code: 'FILE_NOT_FOUND',
        message: `cannot upload ${join(local, 'absent')}: it does not exist`,
      });
      await expect(connection.upload(local, 'x')).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    });

    it('stops when it is aborted, and the connection can still be used', async () => {
      const controller = new AbortController();
      await writeFile(join(local, 'large'), randomBytes(16 * 1024 * 1024));
      const upload = connection.upload(join(local, 'large'), 'large', {
        signal: controller.signal,
        onProgress: () => controller.abort(),
      });
      await expect(upload).rejects.toMatchObject({ code: 'ABORTED' });
      await connection.upload(join(local, 'a'), 'after');
      expect(await readFile(join(guest.home, 'after'), 'utf8')).toBe('a');
    });
  });

  describe('a connection', () => {
    it('tries one key after the other', async () => {
      const other = { source: 'other', key: generateKeyPair('other').privateKey };
      const privateKeys = [other, ...guest.target.privateKeys];
      await using second = await connectSsh({ ...guest.target, privateKeys }, { signal: calm });
      expect(await second.exec('exit 7')).toMatchObject({ exitCode: 7 });
    });

    it('names the user and the keys that were refused', async () => {
      const privateKeys = ['one', 'two'].map((source) => ({ source, key: generateKeyPair(source).privateKey }));
      const { host, port } = guest.target.endpoint;
      await expect(connectSsh({ ...guest.target, privateKeys }, { signal: calm })).rejects.toMatchObject({
        code: 'SSH_AUTHENTICATION',
        message: `the guest at ${host}:${port} refuses all 2 keys (one, two) for user "${guest.target.user}"`,
      });
    });

    it('is refused when the server breaks off after too many keys', async () => {
      const privateKeys = Array.from({ length: 12 }, (_, index) => ({
        source: `key ${index}`,
        key: generateKeyPair(`${index}`).privateKey,
      }));
      await expect(connectSsh({ ...guest.target, privateKeys }, { signal: calm })).rejects.toMatchObject({
        code: 'SSH_AUTHENTICATION',
      });
    });

    it('is not made to a server with another host key', async () => {
      const pinned = generateKeyPair('pinned');
      const hostKey = { kind: 'pinned', publicKey: pinned.publicKey } as const;
      await expect(connectSsh({ ...guest.target, hostKey }, { signal: calm })).rejects.toMatchObject({
        code: 'SSH_HOST_KEY',
        message: expect.stringMatching(/it shows SHA256:\S{43}, and the pinned host key is SHA256:\S{43}$/),
      });
    });

    it('learns the host key once it is logged in', async () => {
      const learned: string[] = [];
      const hostKey = { kind: 'learn', onLearned: (key: string) => void learned.push(key) } as const;
      await using second = await connectSsh({ ...guest.target, hostKey }, { signal: calm });
      expect(await second.exec('true')).toMatchObject({ exitCode: 0 });
      const pinned = guest.target.hostKey;
      expect(pinned.kind === 'pinned' && pinned.publicKey.startsWith(learned[0] ?? '?')).toBe(true);
    });

    it('is closed when it says so, twice if need be', async () => {
      const second = await connectTo(guest);
      await second.close();
      await second.close();
      await second.closed;
      await expect(second.exec('true')).rejects.toMatchObject({ code: 'SSH_TRANSPORT' });
      await expect(second.upload('/etc/hostname', 'x')).rejects.toMatchObject({ code: 'SSH_TRANSPORT' });
    });

    it('tells everybody when the guest goes away', async () => {
      await using doomed = await start();
      const second = await connectTo(doomed);
      await second.upload(join(local, 'a'), 'a');
      const failing = failureOf(second.exec('touch begun; sleep 600'));
      await waitFor(() => there(join(doomed.home, 'begun')), { timeoutMs: 10_000 });
      await doomed.kill();
      expect(await failing).toMatchObject({
        code: 'SSH_TRANSPORT',
        message: expect.stringContaining('broke off'),
      });
      await second.closed;
      await expect(second.exec('true')).rejects.toMatchObject({ code: 'SSH_TRANSPORT' });
      await expect(second.upload(join(local, 'a'), 'b')).rejects.toMatchObject({ code: 'SSH_TRANSPORT' });
    }, 30_000);

    it('tells an upload when the guest goes away', async () => {
      await using doomed = await start();
      const second = await connectTo(doomed);
      await writeFile(join(local, 'large'), randomBytes(16 * 1024 * 1024));
      const kills: Promise<void>[] = [];
      const upload = second.upload(join(local, 'large'), 'large', {
        onProgress: () => {
          if (kills.length === 0) kills.push(doomed.kill());
        },
      });
      await expect(upload).rejects.toMatchObject({
        code: 'SSH_TRANSPORT',
        message: expect.stringContaining('transfer'),
      });
      await Promise.all(kills);
    }, 30_000);
  });
});

describe.each(GUESTS.filter(({ name }) => name !== 'the fake'))('against $name, which has users', ({ start }) => {
  it('a large file is not cut into small pieces, each of which would have to be answered', async () => {
    await using guest = await start();
    await using connection = await connectTo(guest);
    const large = join(guest.home, 'large');
    await writeFile(large, randomBytes(4 * 1024 * 1024), { mode: 0o644 });
    const told: number[] = [];
    await connection.upload(large, 'copy', { onProgress: (bytes) => told.push(bytes) });
    expect(told.length).toBeLessThan(40);
    expect((await readFile(join(guest.home, 'copy'))).equals(await readFile(large))).toBe(true);
  }, 30_000);

  it('an upload says as whom it was refused', async () => {
    await using guest = await start();
    await using connection = await connectTo(guest);
    await expect(connection.upload('/etc/passwd', '/etc/vmctl-test')).rejects.toMatchObject({
      code: 'TRANSFER_FAILED',
      message: 'cannot upload /etc/passwd to /etc/vmctl-test: Permission denied',
      hint: 'Files arrive as user "vm": put them into /tmp, then move them with sudo.',
    });
  }, 30_000);
});
