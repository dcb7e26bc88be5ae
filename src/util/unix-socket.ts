/** Connecting to a Unix socket whose path may be longer than the 107 bytes that `sun_path` holds (unix(7)). */
import { open } from 'node:fs/promises';
import { type Socket, createConnection } from 'node:net';
import { basename, dirname } from 'node:path';
import { Buffer } from 'node:buffer';
import { VmctlError } from '../errors.js';

const LONGEST_SOCKET_PATH = process.platform === 'linux' ? 107 : 103;

/** Connects; a long path is reached through an open directory, by way of `/proc/self/fd`. Throws Node's own errors. */
export async function connectUnixSocket(path: string): Promise<Socket> {
  if (Buffer.byteLength(path) <= LONGEST_SOCKET_PATH) return connect(path);
  if (process.platform !== 'linux') {
    throw new VmctlError('STATE_DIRECTORY', `the socket path ${path} is longer than ${LONGEST_SOCKET_PATH} bytes`, {
      hint: 'Set XDG_DATA_HOME to a folder with a shorter path.',
    });
  }
  const directory = await open(dirname(path), 'r');
  try {
    return await connect(`/proc/self/fd/${directory.fd}/${basename(path)}`);
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
