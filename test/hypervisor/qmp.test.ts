import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type QmpOptions, connectQmp } from '../../src/hypervisor/qemu/qmp.js';
import { VM_FILES } from '../../src/paths.js';
import { settlesWithin } from '../../src/util/wait.js';
import { type TemporaryDirectory, temporaryDirectory } from '../support/fixtures.js';
import { type FakeOptions, startFakeQmp } from './fake-qmp.js';
import { startMachine } from './real-qemu.js';

let directory: TemporaryDirectory;

beforeEach(async () => {
  directory = await temporaryDirectory();
});

afterEach(() => directory[Symbol.asyncDispose]());

const startFake = (options?: FakeOptions) => startFakeQmp(join(directory.path, VM_FILES.qmpSocket), options);

/** A connection that is closed at the end of the test: `await using`. */
async function connect(path: string, options?: QmpOptions) {
  const connection = await connectQmp(path, options);
  return { connection, [Symbol.asyncDispose]: async () => connection.close() };
}

const event = (name: string) => ({ event: name, data: {}, timestamp: { seconds: 1, microseconds: 2 } });

describe.each([
  ['the fake', startFake],
  ['QEMU', () => startMachine(directory.path)],
] as const)('a QMP connection to %s', (_name, start) => {
  test('answers commands with what they return', async () => {
    await using server = await start();
    await using opened = await connect(server.qmp);
    const { connection } = opened;
    expect(await connection.execute('query-status')).toEqual({ status: 'running', singlestep: false, running: true });
    const both = await Promise.all([connection.execute('stop'), connection.execute('cont')]);
    expect(both).toEqual([{}, {}]);
  });

  test('carries the words with which a command is refused', async () => {
    await using server = await start();
    await using opened = await connect(server.qmp);
    await expect(opened.connection.execute('make-coffee')).rejects.toMatchObject({
      code: 'QMP',
      message: 'QEMU refused make-coffee: The command make-coffee has not been found',
    });
    expect(await opened.connection.execute('query-status')).toMatchObject({ running: true });
  });

  test('gives the text of a monitor command', async () => {
    await using server = await start();
    await using opened = await connect(server.qmp);
    expect(await opened.connection.monitor('info usernet')).toMatch(/^Hub -1 \(net0\):\r\n/);
    expect(await opened.connection.monitor('make-coffee')).toMatch(/^unknown command/);
  });

  test('tells of an event, whichever of the event and the answer comes first', async () => {
    await using server = await start();
    await using opened = await connect(server.qmp);
    const { connection } = opened;
    const stopped = await Promise.all([connection.event('STOP'), connection.execute('stop')]);
    const resumed = await Promise.all([connection.event('RESUME'), connection.execute('cont')]);
    expect([stopped, resumed]).toEqual([
      [undefined, {}],
      [undefined, {}],
    ]);
  });

  test('says which event did not come', async () => {
    await using server = await start();
    await using opened = await connect(server.qmp, { timeoutMs: 2_000 });
    await expect(opened.connection.event('STOP')).rejects.toMatchObject({
      code: 'QMP',
      message: 'QEMU did not tell of STOP within 2 s',
    });
    const late = opened.connection.event('STOP');
    opened.connection.close();
    await expect(late).rejects.toMatchObject({
      code: 'QMP',
      message: 'QEMU closed the QMP socket before it told of STOP',
    });
  });

  test('can be made again after it was closed', async () => {
    await using server = await start();
    const first = await connectQmp(server.qmp);
    first.close();
    await first.closed;
    await using opened = await connect(server.qmp);
    expect(await opened.connection.execute('query-status')).toMatchObject({ running: true });
  });

  test('that is closed refuses commands at once', async () => {
    await using server = await start();
    const connection = await connectQmp(server.qmp);
    connection.close();
    await expect(connection.execute('query-status')).rejects.toMatchObject({
      code: 'QMP',
      message: 'QEMU closed the QMP socket before it answered query-status',
    });
  });
});

describe('QEMU itself', () => {
  test('serves one client at a time: a second one hears nothing, and says so', async () => {
    await using machine = await startMachine(directory.path);
    await using _first = await connect(machine.qmp);
    await expect(connectQmp(machine.qmp, { timeoutMs: 100 })).rejects.toMatchObject({
      code: 'QMP',
      message: 'QEMU did not answer greeting within 0.1 s',
    });
  });

  test('closes the connection when it ends', async () => {
    await using machine = await startMachine(directory.path);
    const connection = await connectQmp(machine.qmp);
    await connection.execute('quit');
    expect(await settlesWithin(connection.closed, 10_000)).toBe(true);
  });
});

test('where nobody listens the error is Node’s own', async () => {
  await expect(connectQmp(join(directory.path, 'none.sock'))).rejects.toMatchObject({ code: 'ENOENT' });
});

describe('answers', () => {
  test('are told apart from events between them', async () => {
    const react: FakeOptions['react'] = ({ id }) => [event('STOP'), { return: { id }, id }, event('RESUME')];
    await using server = await startFake({ react });
    await using opened = await connect(server.qmp);
    expect(await opened.connection.execute('one')).toEqual({ id: 2 });
    expect(await opened.connection.execute('two')).toEqual({ id: 3 });
  });

  test('belong to their commands, in whatever order they come', async () => {
    const waiting: number[] = [];
    const react: FakeOptions['react'] = ({ execute, id }) => {
      if (execute === 'qmp_capabilities') return undefined;
      waiting.unshift(id);
      return waiting.length < 3 ? [] : waiting.map((one) => ({ return: one, id: one }));
    };
    await using server = await startFake({ react });
    await using opened = await connect(server.qmp);
    const answers = await Promise.all(['a', 'b', 'c'].map((name) => opened.connection.execute(name)));
    expect(answers).toEqual([2, 3, 4]);
  });

  test('are put together from chunks that end anywhere, inside a character too', async () => {
    const react: FakeOptions['react'] = ({ execute, id }, socket) => {
      if (execute === 'qmp_capabilities') return undefined;
      const bytes = new TextEncoder().encode(`${JSON.stringify({ return: 'Zoë — ☃', id })}\r\n`);
      socket.setNoDelay(true);
      const send = (at: number): void => {
        if (at < bytes.length) socket.write(bytes.subarray(at, at + 1), () => setImmediate(send, at + 1));
      };
      send(0);
      return [];
    };
    await using server = await startFake({ react });
    await using opened = await connect(server.qmp);
    expect(await opened.connection.execute('say')).toBe('Zoë — ☃');
  });

  test('to commands that are no longer waited for are dropped', async () => {
    const react: FakeOptions['react'] = ({ execute, id }) => {
      if (execute === 'late') return [];
      return execute === 'next'
        ? [
            { return: 'late', id: id - 1 },
            { return: 'next', id },
          ]
        : undefined;
    };
    await using server = await startFake({ react });
    await using opened = await connect(server.qmp, { timeoutMs: 1_000 });
    await expect(opened.connection.execute('late')).rejects.toMatchObject({ code: 'QMP' });
    expect(await opened.connection.execute('next')).toBe('next');
  });

  test('carry the arguments of their commands to the server', async () => {
    await using server = await startFake();
    await using opened = await connect(server.qmp);
    await opened.connection.monitor('info usernet');
    expect(server.commands.map(({ execute, arguments: words }) => [execute, words])).toEqual([
      ['qmp_capabilities', undefined],
      ['human-monitor-command', { 'command-line': 'info usernet' }],
    ]);
  });
});

describe('a QMP server that misbehaves', () => {
  test('by silence to a command is given up on', async () => {
    await using server = await startFake({ react: ({ execute }) => (execute === 'stop' ? [] : undefined) });
    await using opened = await connect(server.qmp, { timeoutMs: 1_000 });
    await expect(opened.connection.execute('stop')).rejects.toMatchObject({
      code: 'QMP',
      message: 'QEMU did not answer stop within 1 s',
    });
    expect(await opened.connection.execute('cont')).toEqual({});
  });

  test('by silence to the first command leaves no connection', async () => {
    await using server = await startFake({ react: () => [] });
    await expect(connectQmp(server.qmp, { timeoutMs: 50 })).rejects.toThrow('QEMU did not answer qmp_capabilities');
  });

  test('by closing in the middle of a command fails all that wait', async () => {
    const react: FakeOptions['react'] = ({ execute }, socket) => {
      if (execute === 'qmp_capabilities') return undefined;
      if (execute === 'quit') socket.destroy();
      return [];
    };
    await using server = await startFake({ react });
    await using opened = await connect(server.qmp);
    const { connection } = opened;
    const outcomes = await Promise.allSettled([connection.execute('stop'), connection.execute('quit')]);
    expect(outcomes.map((outcome) => outcome.status === 'rejected' && String(outcome.reason))).toEqual([
      'VmctlError: QEMU closed the QMP socket before it answered stop',
      'VmctlError: QEMU closed the QMP socket before it answered quit',
    ]);
    await connection.closed;
  });

  test('by closing before its greeting is told as that', async () => {
    await using server = await startFake({ greeting: null });
    await expect(connectQmp(server.qmp, { timeoutMs: 10_000 })).rejects.toThrow(
      'QEMU closed the QMP socket without a greeting',
    );
  });

  test.each(['HTTP/1.1 400 Bad Request', '{"QMP":', '7'])(
    'by talking something else (%s) is left',
    async (greeting) => {
      await using server = await startFake({ greeting });
      await expect(connectQmp(server.qmp, { timeoutMs: 10_000 })).rejects.toMatchObject({
        code: 'QMP',
        message: 'QEMU closed the QMP socket without a greeting',
      });
    },
  );

  test('by an answer that is no JSON fails the command', async () => {
    const react: FakeOptions['react'] = ({ execute }, socket) => {
      if (execute === 'qmp_capabilities') return undefined;
      socket.write('nonsense\r\n');
      return [];
    };
    await using server = await startFake({ react });
    await using opened = await connect(server.qmp, { timeoutMs: 10_000 });
    await expect(opened.connection.execute('stop')).rejects.toThrow('QEMU closed the QMP socket before it answered');
  });
});
