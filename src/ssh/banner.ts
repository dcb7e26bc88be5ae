/**
 * Who answers on a port? An open port is not readiness: QEMU's user networking accepts a connection before the guest
 * listens, and then either closes it or leaves it hanging. Only the server's identification string tells.
 */
import { type Socket, connect } from 'node:net';
import type { Endpoint } from '../model/vm.js';
import { throwIfAborted } from '../util/wait.js';

/** A server may say this much before its identification string (RFC 4253 4.2 sets no limit; OpenSSH allows 1024 lines). */
const LONGEST_PREAMBLE_BYTES = 64 * 1024;

export interface DialOptions {
  /** Milliseconds. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** What became of one connection attempt. */
export type DialOutcome =
  /** The socket is paused and has everything that the server sent still to read. It is the caller's to end. */
  | { readonly kind: 'answered'; readonly socket: Socket; readonly identification: string }
  /** Refused, closed or broken off, with the reason; or the server said something that is not SSH. */
  | { readonly kind: 'refused'; readonly reason: string }
  /** Nothing came in time. */
  | { readonly kind: 'silent' };

/** Connects and waits for an identification string `SSH-2.0-…`. Throws `ABORTED` when cancelled, nothing else. */
export async function dial(endpoint: Endpoint, options: DialOptions): Promise<DialOutcome> {
  throwIfAborted(options.signal);
  const socket = connect({ host: endpoint.host, port: endpoint.port, noDelay: true });
  // It stays for the socket's whole life: a connection may break between two of its owners.
  socket.on('error', () => {});
  const outcome = await identification(socket, options);
  if (outcome.kind !== 'answered') socket.destroy();
  if (options.signal.aborted) socket.destroy();
  throwIfAborted(options.signal);
  return outcome;
}

/** The identification string of the SSH server there; null when it refuses, closes or says nothing. Throws `ABORTED`. */
export async function readBanner(endpoint: Endpoint, options: DialOptions): Promise<string | null> {
  const outcome = await dial(endpoint, options);
  if (outcome.kind !== 'answered') return null;
  outcome.socket.destroy();
  return outcome.identification;
}

function identification(socket: Socket, options: DialOptions): Promise<DialOutcome> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const finish = (outcome: DialOutcome): void => {
      clearTimeout(timer);
      options.signal.removeEventListener('abort', onAbort);
      socket.off('data', onData).off('error', onError).off('close', onClose);
      resolve(outcome);
    };
    const onAbort = (): void => finish({ kind: 'silent' });
    const onError = (error: Error): void => finish({ kind: 'refused', reason: error.message });
    const onClose = (): void => finish({ kind: 'refused', reason: closedReason(Buffer.concat(chunks)) });
    const onData = (chunk: Buffer): void => {
      chunks.push(chunk);
      const bytes = Buffer.concat(chunks);
      const line = findIdentification(bytes);
      if (line !== null) {
        socket.pause();
        socket.unshift(bytes);
        finish({ kind: 'answered', socket, identification: line });
      } else if (bytes.length > LONGEST_PREAMBLE_BYTES) {
        finish({ kind: 'refused', reason: 'what answers there does not speak SSH' });
      }
    };
    const timer = setTimeout(() => finish({ kind: 'silent' }), options.timeoutMs);
    options.signal.addEventListener('abort', onAbort);
    socket.on('data', onData).on('error', onError).on('close', onClose);
  });
}

/** The first whole line that begins with `SSH-2.0-`, or `SSH-1.99-`, which means the same (RFC 4253 5.1). */
function findIdentification(bytes: Buffer): string | null {
  const match = /^(SSH-(?:2\.0|1\.99)-[^\r\n]*)\r?\n/m.exec(bytes.toString('latin1'));
  return match?.[1] ?? null;
}

/** sshd says why it turns somebody away ("Exceeded MaxStartups", "Not allowed at this time") in a plain line. */
function closedReason(bytes: Buffer): string {
  const words = bytes.toString('latin1').trim();
  return words === '' ? 'the connection was closed at once' : `it answered ${JSON.stringify(words.slice(0, 200))}`;
}
