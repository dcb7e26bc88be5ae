/** A QMP server in this process that behaves, or misbehaves, as it is told. */
import { once } from 'node:events';
import { type Socket, createServer } from 'node:net';
import { createInterface } from 'node:readline';

const GREETING = JSON.stringify({
  QMP: { version: { qemu: { micro: 22, minor: 2, major: 7 }, package: '' }, capabilities: ['oob'] },
});

export interface Command {
  readonly execute: string;
  readonly arguments?: Readonly<Record<string, unknown>>;
  readonly id: number;
}

export interface FakeQmp extends AsyncDisposable {
  readonly qmp: string;
  /** The commands that came in. */
  readonly commands: readonly Command[];
}

export interface FakeOptions {
  /** Default: QEMU 7.2's greeting. Null closes the connection instead. */
  readonly greeting?: string | null;
  /** Asked before the usual answers; undefined leaves the command to them. */
  readonly react?: (command: Command, socket: Socket) => readonly object[] | undefined;
}

/** Answers as QEMU does: a greeting, an empty return for what it knows, and an error for what it does not. */
export async function startFakeQmp(path: string, options: FakeOptions = {}): Promise<FakeQmp> {
  const commands: Command[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    if (options.greeting === null) socket.destroy();
    else socket.write(`${options.greeting ?? GREETING}\r\n`);
    createInterface({ input: socket }).on('line', (line) => {
      const command: Command = JSON.parse(line);
      commands.push(command);
      const answers = options.react?.(command, socket) ?? [
        ...usualEvents(command),
        { ...usualAnswer(command), id: command.id },
      ];
      for (const answer of answers) socket.write(`${JSON.stringify(answer)}\r\n`);
    });
  }).listen(path);
  await once(server, 'listening');
  return {
    qmp: path,
    commands,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

function usualEvents({ execute }: Command): readonly object[] {
  const event = { stop: 'STOP', cont: 'RESUME' }[execute];
  return event === undefined ? [] : [{ event, timestamp: { seconds: 1, microseconds: 2 } }];
}

function usualAnswer({ execute, arguments: words }: Command): object {
  switch (execute) {
    case 'qmp_capabilities':
    case 'stop':
    case 'cont':
      return { return: {} };
    case 'query-status':
      return { return: { status: 'running', singlestep: false, running: true } };
    case 'human-monitor-command':
      return { return: words?.['command-line'] === 'info usernet' ? 'Hub -1 (net0):\r\n' : 'unknown command\r\n' };
    default:
      return { error: { class: 'CommandNotFound', desc: `The command ${execute} has not been found` } };
  }
}
