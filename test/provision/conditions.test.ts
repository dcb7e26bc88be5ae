import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { type Server, type Socket, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { VmctlError } from '../../src/errors.js';
import type { ReadyCondition } from '../../src/model/definition.js';
import { conditionTitle } from '../../src/model/spec.js';
import {
  type ConditionOptions,
  type ConditionWorld,
  type Route,
  waitForConditions,
} from '../../src/provision/conditions.js';
import { type SshConnection, connectSsh } from '../../src/ssh/client.js';
import { waitFor } from '../../src/util/wait.js';
import { calm, newKeys, targetOf } from '../ssh/guests.js';
import { SshServer } from '../support/ssh-server.js';

const keys = newKeys();
let guest: SshServer;
let folder: string;
let consoleLog: string;
let connections: SshConnection[];
let servers: Server[];

beforeEach(async () => {
  guest = await SshServer.start({ hostKey: keys.host.privateKey, authorizedKeys: [keys.user.publicKey] });
  folder = await mkdtemp(join(tmpdir(), 'vmctl-conditions-'));
  consoleLog = join(folder, 'console.log');
  connections = [];
  servers = [];
});

afterEach(async () => {
  await Promise.all(connections.map((connection) => connection.close()));
  for (const server of servers) server.close();
  await guest[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function logIn(): Promise<SshConnection> {
  const connection = await connectSsh(targetOf(guest.endpoint, 'vm', keys), { signal: calm });
  connections.push(connection);
  return connection;
}

function world(changes: Partial<ConditionWorld> = {}): ConditionWorld {
  let connecting: Promise<SshConnection> | null = null;
  return {
    name: 'web',
    connection: () => (connecting ??= logIn()),
    route: async () => null,
    consoleLog,
    consoleFrom: 0,
    consoleBefore: null,
    catchUpConsole: async () => true,
    stillRunning: async () => true,
    ...changes,
  };
}

/** Waits for these; keeps what was left each time. */
async function wait(
  conditions: readonly ReadyCondition[],
  changes: Partial<ConditionWorld> = {},
  options: Partial<ConditionOptions> = {},
): Promise<readonly string[]> {
  const told: string[] = [];
  await waitForConditions(conditions, world(changes), {
    timeoutMs: 20_000,
    signal: calm,
    onWaiting: (left) => void told.push(left.map(conditionTitle).join(', ')),
    ...options,
  });
  return told;
}

/** Long enough for an answer on a busy machine, with a connection that is there already. */
const SHORT_MS = 3_000;

async function failure(...[conditions, changes, options]: Parameters<typeof wait>): Promise<VmctlError> {
  const made = await logIn();
  const own = { connection: async () => made, ...changes };
  const error: unknown = await wait(conditions, own, { timeoutMs: SHORT_MS, ...options }).then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof VmctlError)) throw new Error(`not an expected failure: ${String(error)}`);
  return error;
}

/** A server on a free port of this host, which the fake guest shares. */
async function listen(onConnection: (socket: Socket) => void): Promise<number> {
  const server = createServer((socket) => onConnection(socket.on('error', () => {})));
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not a TCP port');
  return address.port;
}

const log = (pattern: string, flags = ''): ReadyCondition => ({ kind: 'log', pattern, flags });
const shell = (command: string): ReadyCondition => ({ kind: 'shell', command });
const http = (port: number, status: number | null = null): ReadyCondition => ({
  kind: 'http',
  path: '/health',
  port,
  status,
});

/** An address that a connection itself proves to be the guest's. */
const direct =
  (port: number) =>
  async (guestPort: number): Promise<Route | null> =>
    guestPort === port ? { host: '127.0.0.1', port, taken: null } : null;

describe('a condition', () => {
  test('of a file holds when it is there, below the home directory too', async () => {
    await writeFile(join(guest.root, 'here'), '');
    await wait([
      { kind: 'file', path: '~/here' },
      { kind: 'file', path: 'here' },
      { kind: 'file', path: '/' },
    ]);
    const error = await failure([{ kind: 'file', path: "~/it's not" }]);
    expect(error.message).toBe(
      'VM "web" was not ready: there was no ~/it\'s not within 3 s: it is not there, or its folder cannot be looked into by the user',
    );
  });

  test('of a command holds when it exits with 0, and says with what else and its last words', async () => {
    await wait([shell('true')]);
    const error = await failure([shell('echo first; echo "last words" >&2; exit 3')]);
    expect(error).toMatchObject({ code: 'READY_TIMEOUT', fields: { vm: 'web', timeoutMs: 3000 } });
    expect(error.message).toBe(
      'VM "web" was not ready: the command "echo first; echo \\"last words\\" >&2; exit 3" did not succeed within 3 s: exit code 3, last words',
    );
    expect((await failure([shell('sleep 60')])).message).toMatch(/within 3 s: no answer yet$/);
  });

  test('of a port holds while something listens there, and else names the ports that are open', async () => {
    const port = await listen(() => {});
    await wait([{ kind: 'port', port }]);
    const error = await failure([{ kind: 'port', port: 1 }]);
    expect(error.message).toMatch(/nothing listened on port 1 within 3 s: it listens on .*only$/);
  });

  test('of HTTP holds with the status that it names, or with any of success', async () => {
    const answer = (status: string) => (socket: Socket) =>
      void socket.once('data', () => socket.end(`HTTP/1.1 ${status}\r\n\r\n`));
    const created = await listen(answer('201 Created'));
    const failing = await listen(answer('503 Service Unavailable'));
    const closing = await listen((socket) => socket.end());
    await wait([http(created), http(created, 201)], { route: direct(created) });
    await wait([http(failing, 503)], { route: direct(failing) });
    expect((await failure([http(created, 200)], { route: direct(created) })).message).toContain(
      `GET /health on port ${created} was not answered with 200 within 3 s: it was answered with 201`,
    );
    expect((await failure([http(failing)], { route: direct(failing) })).message).toContain('it was answered with 503');
    expect((await failure([http(closing)], { route: direct(closing) })).message).toMatch(
      /closed without an answer|ECONNRESET/,
    );
  });

  test('of a line holds for the lines since the last start alone', async () => {
    const before = 'listening on port 80\n';
    await writeFile(consoleLog, `${before}[  0.0] booting\r\n`);
    await wait([log('listening')]);
    const late = await failure([log('Listening', 'i')], { consoleFrom: before.length });
    expect(late.message).toBe(
      'VM "web" was not ready: no line of its console matched /Listening/i within 3 s: the last of 2 lines is: [  0.0] booting',
    );
    expect(late.details).toContain('[  0.0] booting');
    await appendFile(consoleLog, '\u001b[1mlistening\u001b[0m on port 80');
    await wait([log('^listening on port \\d+$')], { consoleFrom: before.length });
    await rm(consoleLog);
    expect((await failure([log('x')])).message).toContain('it has printed nothing yet');
  });

  test('of a line holds also for what the guest had printed before it was frozen', async () => {
    const consoleBefore = join(folder, 'frozen.log');
    await writeFile(consoleBefore, 'booting\nserving on port 80\n');
    await writeFile(consoleLog, 'of another time\ngoing on\n');
    const changes = { consoleBefore, consoleFrom: 'of another time\n'.length };
    await wait([log('^serving'), log('^going on$')], changes);
    expect((await failure([log('other')], changes)).message).toContain('the last of 4 lines is: going on');
    await rm(consoleBefore);
    await wait([log('^going on$')], changes);
  });

  test('of a unit asks systemd, and tells in which state it is', async () => {
    await writeFile(join(guest.root, 'systemctl'), '#!/bin/sh\necho "$3 is activating"; exit 3\n', { mode: 0o755 });
    const asked = `PATH="$PWD:$PATH"; systemctl is-active -- app.service`;
    expect((await failure([shell(asked)])).message).toContain('exit code 3, app.service is activating');
    await failure([{ kind: 'unit', unit: "app's.service" }]);
    expect(guest.commands.at(-1)).toBe("systemctl is-active -- 'app'\\''s.service'");
  });
});

test('conditions are waited for at the same time, and what is left is told', async () => {
  // Each of the two commands ends only when the other one runs.
  const meet = (own: string, other: string) => shell(`touch ${own}; while ! test -e ${other}; do sleep 0.02; done`);
  const told = await wait(
    [meet('a', 'b'), meet('b', 'a'), log('up')],
    {},
    {
      onWaiting: (left) => {
        if (left.length === 1) void appendFile(consoleLog, 'up\n');
      },
    },
  );
  expect(told).toEqual([]);
  const all = await wait([shell('true'), log('up')]);
  expect(all[0]).toBe('shell "true", log /up/');
  expect(all.at(-1)).toBe('');
});

test('one deadline holds for all, and each that does not hold is told with what was found', async () => {
  await writeFile(consoleLog, 'one\ntwo\n');
  const error = await failure([shell('exit 4'), shell('true'), log('three')]);
  expect(error.message).toBe(
    'VM "web" was not ready: within 3 s the command "exit 4" did not succeed (exit code 4), and no line of its console matched /three/ (the last of 3 lines is: two)',
  );
  expect(error.fields).toMatchObject({ condition: 'shell "exit 4"; log /three/' });
  expect(error).toMatchObject({ details: 'one\ntwo', hint: expect.stringContaining('vmctl log web') });
});

test('waiting ends at once when the VM stops, and when it cannot be looked at', async () => {
  const stopped = await failure([log('never')], { stillRunning: async () => false }, { timeoutMs: 60_000 });
  expect(stopped).toMatchObject({
    code: 'VM_STATE',
    message: 'VM "web" stopped while it was waited for: no line of its console matched /never/',
  });
  const stillRunning = async () => {
    throw new VmctlError('QMP', 'no answer');
  };
  expect((await failure([log('never')], { stillRunning }, { timeoutMs: 60_000 })).code).toBe('QMP');
});

test('an interruption is told as that', async () => {
  const interruption = new AbortController();
  const waiting = failure([shell('touch begun; sleep 60')], {}, { timeoutMs: 60_000, signal: interruption.signal });
  await waitFor(async () => (guest.running > 0 ? true : null), { timeoutMs: 10_000 });
  interruption.abort();
  expect((await waiting).code).toBe('ABORTED');
  // The command does not outlive it.
  expect(await waitFor(async () => (guest.running === 0 ? true : null), { timeoutMs: 10_000 })).toBe(true);
});

test('a connection that breaks off is made again', async () => {
  let current: Promise<SshConnection> | null = null;
  const connection = () => {
    current ??= logIn().then((made) => {
      void made.closed.then(() => (current = null));
      return made;
    });
    return current;
  };
  const waiting = wait([shell('test -e go')], { connection });
  await waitFor(async () => (guest.commands.length > 0 ? true : null), { timeoutMs: 10_000 });
  guest.drop();
  await writeFile(join(guest.root, 'go'), '');
  await waiting;
  expect(guest.logins).toBe(2);
});

describe('where nobody can log in', () => {
  const noLogin = { connection: null };

  test('a port is a connection that the guest takes', async () => {
    const silent = await listen(() => {});
    await wait([{ kind: 'port', port: silent }], { ...noLogin, route: direct(silent) });
    const speaking = await listen((socket) => void socket.write('hello\n'));
    const never = async () => false;
    const through = async (port: number) => ({ host: '127.0.0.1', port, taken: never });
    // What speaks is there, and what is silent may be QEMU, which takes every connection.
    await wait([{ kind: 'port', port: speaking }], { ...noLogin, route: through });
    const untaken = await failure(
      [{ kind: 'port', port: silent }],
      { ...noLogin, route: through },
      { timeoutMs: 1500 },
    );
    expect(untaken.message).toContain('the guest did not take the connection');
    const closing = await listen((socket) => socket.end());
    const refused = await failure([{ kind: 'port', port: closing }], { ...noLogin, route: through });
    expect(refused.message).toContain('the guest refused the connection');
    let answers = 0;
    const taken = async () => (answers += 1) > 2;
    await wait([{ kind: 'port', port: silent }], {
      ...noLogin,
      route: async (port) => ({ host: '127.0.0.1', port, taken }),
    });
    expect((await failure([{ kind: 'port', port: 1 }], noLogin)).message).toContain('nothing leads there');
  });

  test('what needs a login is refused at once', async () => {
    const error = await failure([shell('true')], noLogin, { timeoutMs: 60_000 });
    expect(error).toMatchObject({ code: 'UNSUPPORTED', hint: expect.stringContaining('log') });
  });
});

test('cloud-init that has failed is told at once, with its errors', async () => {
  const cat = async (text: string) => {
    const real = await logIn();
    const exec: SshConnection['exec'] = async (command, options) =>
      real.exec(command.replace('cat /run/cloud-init/result.json', `printf '%s' '${text}'`), options);
    return { connection: async () => Object.assign(Object.create(real), { exec }) };
  };
  const condition = { kind: 'cloud-init' } as const;
  expect((await failure([condition])).message).toContain('there is no /run/cloud-init/result.json');
  await wait([condition], await cat('{"v1": {"datasource": "x", "errors": []}}'));
  const failed = await failure([condition, shell('sleep 60')], await cat('{"v1": {"errors": ["no such key"]}}'), {
    timeoutMs: 60_000,
  });
  expect(failed).toMatchObject({ code: 'COMMAND_FAILED', details: expect.stringContaining('no such key') });
});
