/**
 * A machine's state on its way out of QEMU and into it (QEMU manual, "Migration framework"; QMP reference, "Migration").
 * It goes through a socket in the VM's directory, whose other end is vmctl: so QEMU needs to start no program for it,
 * and stays in its sandbox.
 */
import { createReadStream, createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import * as v from 'valibot';
import { VmctlError } from '../../errors.js';
import { PRIVATE_FILE_MODE, VM_FILES } from '../../paths.js';
import { isFull, stateDirectoryError } from '../../util/fs.js';
import { connectUnixSocket, listenUnixSocket } from '../../util/unix-socket.js';
import { throwIfAborted, unlessAborted, waitFor } from '../../util/wait.js';
import type { QmpConnection } from './qmp.js';
import { type StateHeader, headerLine, readHeader } from './state-header.js';

export interface StreamOptions {
  /** The VM's directory, where QEMU works. */
  readonly directory: string;
  /** True where the memory is a file of its own, which is left out of the state. */
  readonly withoutMemory: boolean;
  readonly signal: AbortSignal;
}

export interface WriteOptions extends StreamOptions {
  readonly header: StateHeader;
}

/** QEMU keeps to 128 MiB/s if it is not told otherwise, for the sake of networks. */
const BYTES_PER_SECOND = 2 ** 40;
/** For the devices' state, or for as much memory as a slow disk takes in that time. */
const TIMEOUT_MS = 10 * 60_000;
/** QEMU stops at the next buffer that it would send. */
const CANCEL_TIMEOUT_MS = 10_000;
/** What `query-migrate` says of a migration that is not under way. */
const OVER: readonly string[] = ['none', 'completed', 'failed', 'cancelled'];

type Qmp = Pick<QmpConnection, 'execute'>;

const migrationSchema = v.object({ status: v.optional(v.string()), 'error-desc': v.optional(v.string()) });

/** Writes the state of a paused machine to `path`, complete and synced, or nothing. Throws `QMP`, `STATE_DIRECTORY`, `ABORTED`. */
export async function writeState(qmp: Qmp, path: string, options: WriteOptions): Promise<void> {
  const { directory, signal } = options;
  const socketPath = join(directory, VM_FILES.stateSocket);
  const partial = `${path}.partial`;
  await rm(socketPath, { force: true });
  await using listener = await listenUnixSocket(socketPath);
  try {
    await configure(qmp, options);
    await qmp.execute('migrate-set-parameters', { 'max-bandwidth': BYTES_PER_SECOND });
    await qmp.execute('migrate', { uri: `unix:${VM_FILES.stateSocket}` });
    const connected = Promise.race([listener.socket, settled(qmp, signal).then(() => null)]);
    const socket = await unlessAborted(connected, signal);
    if (socket === null) throw new VmctlError('QMP', 'QEMU did not hand out its state');
    const file = createWriteStream(partial, { mode: PRIVATE_FILE_MODE, flush: true });
    file.write(headerLine(options.header));
    await pipeline(socket, file, { signal }).catch((error: unknown) => {
      // Of the file's troubles, this is the one that people have.
      throw isFull(error) ? stateDirectoryError('write', path, error) : error;
    });
    await settled(qmp, signal);
    await rename(partial, path);
  } catch (error) {
    await cancel(qmp).catch(() => {});
    await rm(partial, { force: true });
    throwIfAborted(signal);
    throw error;
  }
}

/** Hands a machine that waits for one its state; it is paused then. QEMU ends where it cannot load it. */
export async function readState(qmp: Qmp, path: string, options: StreamOptions): Promise<void> {
  const { directory, signal } = options;
  const found = await readHeader(path);
  if (found === null) throw new VmctlError('QMP', `there is no state of a machine in ${path}`);
  await configure(qmp, options);
  await qmp.execute('migrate-incoming', { uri: `unix:${VM_FILES.stateSocket}` });
  const socket = await connectUnixSocket(join(directory, VM_FILES.stateSocket));
  try {
    // QEMU hangs up as soon as it has read what it needs; whether that was all of it is told by the outcome.
    await pipeline(createReadStream(path, { start: found.bytes }), socket, { signal }).catch(() =>
      throwIfAborted(signal),
    );
    await settled(qmp, signal);
  } finally {
    socket.destroy();
    await rm(join(directory, VM_FILES.stateSocket), { force: true });
  }
}

async function configure(qmp: Qmp, { withoutMemory }: StreamOptions): Promise<void> {
  const capability = { capability: 'x-ignore-shared', state: withoutMemory };
  await qmp.execute('migrate-set-capabilities', { capabilities: [capability] });
}

/** Waits until QEMU has given up, too: before that it refuses another one. */
async function cancel(qmp: Qmp): Promise<void> {
  await qmp.execute('migrate_cancel');
  const look = async () => (OVER.includes((await migrationOf(qmp)).status ?? 'none') ? true : null);
  await waitFor(look, { timeoutMs: CANCEL_TIMEOUT_MS });
}

async function migrationOf(qmp: Qmp): Promise<v.InferOutput<typeof migrationSchema>> {
  return v.parse(migrationSchema, await qmp.execute('query-migrate'));
}

/** Waits until the migration is over; throws `QMP` where it failed. */
async function settled(qmp: Qmp, signal: AbortSignal): Promise<void> {
  const look = async () => {
    const { status, 'error-desc': words } = await migrationOf(qmp);
    if (status === 'failed' || status === 'cancelled') {
      throw new VmctlError('QMP', `QEMU could not move the state of the machine: ${words ?? status}`);
    }
    return status === 'completed' ? true : null;
  };
  if ((await waitFor(look, { timeoutMs: TIMEOUT_MS, signal })) === null) {
    throw new VmctlError('QMP', `QEMU did not finish with the state of the machine within ${TIMEOUT_MS / 1000} s`);
  }
}
