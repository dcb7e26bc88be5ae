/** Connecting to a Unix socket whose path may be longer than the 107 bytes that `sun_path` holds (unix(7)). */
import { once } from 'node:events';
import { open, rm } from 'node:fs/promises';
import { type Socket, createConnection, createServer } from 'node:net';
import { basename, dirname } from 'node:path';
import { Buffer } from 'node:buffer';
import { VmctlError } from '../errors.js';

const LONGEST_SOCKET_PATH = process.platform === 'linux' ? 107 : 103;

/** Connects; a long path is reached through an open directory, by way of `/proc/self/fd`. Throws Node's own errors. */
export function connectUnixSocket(path: string): Promise<Socket> {
  return throughDirectory(path, connect);
}

/** A socket that somebody else is to connect to, once. */
export interface AwaitedConnection extends AsyncDisposable {
  /** Settles when somebody has connected. */
  readonly socket: Promise<Socket>;
}

/** Listens at a path where no file is yet; the end of it closes the connection and removes the file. */
export function listenUnixSocket(path: string): Promise<AwaitedConnection> {
  return throughDirectory(path, async (reachable) => {
    const server = createServer();
    const listening = once(server, 'listening');
    server.listen(reachable);
    await listening;
    const socket = new Promise<Socket>((resolve) => server.once('connection', resolve));
    return {
      socket,
      [Symbol.asyncDispose]: async () => {
        void socket.then((connection) => connection.destroy());
        server.close();
        // Node removes it by the path that it was given, which may lead nowhere by now.
        await rm(path, { force: true });
      },
    };
  });
}

/** Calls `use` with a path of the same socket that is short enough. */
async function throughDirectory<T>(path: string, use: (path: string) => Promise<T>): Promise<T> {
  if (Buffer.byteLength(path) <= LONGEST_SOCKET_PATH) return use(path);
  if (process.platform !== 'linux') {
    throw new VmctlError('STATE_DIRECTORY', `the socket path ${path} is longer than ${LONGEST_SOCKET_PATH} bytes`, {
      hint: 'Set XDG_DATA_HOME to a folder with a shorter path.',
    });
  }
  const directory = await open(dirname(path), 'r');
  try {
    return await use(`/proc/self/fd/${directory.fd}/${basename(path)}`);
  } finally {
    await directory.close();
  }
}

function connect(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}
