/** SSH connections to guests. The only importer of ssh2. */
import type { Buffer } from 'node:buffer';
import { type Socket, connect } from 'node:net';
import ssh2, {
  type CipherAlgorithm,
  type Client,
  type ConnectConfig,
  type ParsedKey,
  type ServerHostKeyAlgorithm,
} from 'ssh2';
import { VmctlError } from '../errors.js';
import { throwIfAborted } from '../util/wait.js';
import { GuestConnection, type SshConnection, type SshTransport } from './connection.js';
import { gatherWrites } from './gathered-writes.js';
import { type PublicKey, parsePublicKey } from './keys.js';
import { loginError } from './login-error.js';
import type { RequestLimits } from './sftp.js';
import type { SshTarget } from './target.js';

export type { SshConnection } from './connection.js';
export type { ExecOptions } from './exec.js';
export type { EntryKind } from './sftp.js';
export type { SshTarget } from './target.js';
export type { TransferOptions, TransferSummary } from './transfer.js';

const LOGIN_TIMEOUT_MS = 20_000;
/** A guest that leaves three of these unanswered is taken for dead. */
const KEEPALIVE_MS = 5_000;
const KEEPALIVE_COUNT = 3;
/**
 * Offered after ChaCha20, as OpenSSH does it; ssh2 has it the other way round. dropbear knows these two kinds only, and
 * without the processor's help AES and a hash cost a guest more.
 */
const COSTLY_CIPHERS: CipherAlgorithm[] = ['aes128-ctr', 'aes192-ctr', 'aes256-ctr'];
/** Every SFTP server takes packets of 34,000 bytes (draft-ietf-secsh-filexfer-02, 3), 2 KiB of them overhead. */
const LEAST_REQUEST_BYTES = 31 * 1024;

export interface ConnectOptions {
  /** Ends the attempt at once; has no meaning for the connection afterwards. */
  readonly signal: AbortSignal;
  /** Milliseconds for everything up to the login; default 20 s. */
  readonly timeoutMs?: number;
  /**
   * True for a connection that is kept for later: it keeps the process alive only while something is under way on it.
   */
  readonly background?: boolean;
  /** A connection to the endpoint that is there already, as `dial` gives it. It belongs to this call from now on. */
  readonly socket?: Socket;
}

/**
 * Connects and logs in: TCP, host key, authentication.
 *
 * Throws `SSH_HOST_KEY` when the server cannot show the pinned key (then nothing was offered to it),
 * `SSH_AUTHENTICATION` when it refuses every key or none of them can be used, `ABORTED`, and `SSH_TRANSPORT` for
 * everything else. One attempt: trying again is `provision/readiness`.
 */
export async function connectSsh(target: SshTarget, options: ConnectOptions): Promise<SshConnection> {
  const follow = (client: Client, socket: Socket) => new GuestConnection(transportOf(client), socket, target);
  const connection = await open(target, { ...options, until: 'ready', follow });
  if (options.background === true) connection.keepInBackground();
  return connection;
}

/**
 * Connects, has the server prove that it has the pinned host key, and leaves: nothing is offered to it. Throws as
 * `connectSsh`, also when no private key could be used.
 */
export async function verifyHostKey(target: SshTarget, options: Omit<ConnectOptions, 'background'>): Promise<void> {
  await open(target, { ...options, until: 'handshake', follow: (client) => void client.on('error', () => {}) });
}

interface OpenOptions<T> extends ConnectOptions {
  /** How far it goes: the server has shown its host key, or has let the user in. */
  readonly until: 'handshake' | 'ready';
  /** Takes the client before anything can happen to it. */
  readonly follow: (client: Client, socket: Socket) => T;
}

async function open<T>(target: SshTarget, options: OpenOptions<T>): Promise<T> {
  const seen: { hostKey: Buffer | null; banner: string } = { hostKey: null, banner: '' };
  const accepted = pinnedKeys(target);
  const pinned = accepted[0] ?? null;
  let keys: PrivateKeys = { usable: [], unusable: [] };
  let socket = options.socket;
  try {
    throwIfAborted(options.signal);
    keys = readPrivateKeys(target);
    socket ??= connect({ ...target.endpoint, noDelay: true });
    gatherWrites(socket);
    const client = new ssh2.Client();
    client.on('banner', (text) => {
      seen.banner += text;
    });
    const followed = options.follow(client, socket);
    await login(client, options, {
      sock: socket,
      username: target.user,
      authHandler: keys.usable.map(({ key }) => ({ type: 'publickey' as const, username: target.user, key })),
      hostVerifier: (key: Buffer) => {
        seen.hostKey = key;
        return pinned === null || accepted.some(({ blob }) => blob.equals(key));
      },
      algorithms: {
        cipher: { remove: COSTLY_CIPHERS, append: COSTLY_CIPHERS, prepend: [] },
        ...(pinned === null ? {} : { serverHostKey: [...new Set(accepted.flatMap(negotiable))] }),
      },
    });
    if (target.hostKey.kind === 'learn' && seen.hostKey !== null) {
      await target.hostKey.onLearned(publicKeyLine(seen.hostKey));
    }
    return followed;
  } catch (error) {
    socket?.destroy();
    const offered = keys.usable.map(({ source }) => source);
    throw loginError(error, {
      target,
      accepted,
      shown: seen.hostKey,
      banner: seen.banner,
      offered,
      unusable: keys.unusable,
    });
  }
}

/** Settles with the first of: what is to be reached, failure, end of the connection, deadline, cancellation. */
function login(client: Client, options: OpenOptions<unknown>, config: ConnectConfig): Promise<void> {
  const { until, timeoutMs = LOGIN_TIMEOUT_MS } = options;
  return new Promise<void>((resolve, reject) => {
    const settle = (error?: Error): void => {
      clearTimeout(timer);
      options.signal.removeEventListener('abort', onAbort);
      client.off('ready', onReached).off('handshake', onReached).off('error', settle).off('close', onClose);
      if (error === undefined) resolve();
      else reject(error);
    };
    const onReached = (): void => {
      // At once: right after this event ssh2 asks to log in.
      if (until === 'handshake') client.destroy();
      settle();
    };
    const onClose = (): void => settle(new Error('the server closed the connection'));
    const onAbort = (): void => settle(new VmctlError('ABORTED', 'interrupted', { cause: options.signal.reason }));
    const timer = setTimeout(() => settle(new Error(`nothing happened for ${timeoutMs / 1000} s`)), timeoutMs);
    options.signal.addEventListener('abort', onAbort);
    if (until === 'handshake') client.on('handshake', onReached);
    else client.on('ready', onReached);
    client.on('error', settle).on('close', onClose);
    client.connect({
      ...config,
      // The deadline is ours, and covers the TCP connection too.
      readyTimeout: 0,
      // ssh2's own timer would keep the process alive.
      keepaliveInterval: options.background === true ? 0 : KEEPALIVE_MS,
      keepaliveCountMax: KEEPALIVE_COUNT,
    });
  });
}

interface PrivateKeys {
  readonly usable: readonly { readonly source: string; readonly key: ParsedKey }[];
  /** Each with the reason. */
  readonly unusable: readonly string[];
}

/** Throws `SSH_AUTHENTICATION` when none of the keys can be used at all: then trying to log in is in vain. */
export function assertUsableKeys(target: Pick<SshTarget, 'user' | 'privateKeys'>): void {
  readPrivateKeys(target);
}

function readPrivateKeys(target: Pick<SshTarget, 'user' | 'privateKeys'>): PrivateKeys {
  const usable: { source: string; key: ParsedKey }[] = [];
  const unusable: string[] = [];
  let encrypted = false;
  for (const { source, key } of target.privateKeys) {
    const parsed = ssh2.utils.parseKey(key);
    if (!(parsed instanceof Error) && parsed.isPrivateKey()) {
      usable.push({ source, key: parsed });
    } else if (parsed instanceof Error && /encrypted|passphrase/i.test(parsed.message)) {
      encrypted = true;
      unusable.push(`${source} is protected by a passphrase`);
    } else {
      unusable.push(`${source} is not a private key`);
    }
  }
  if (usable.length > 0) return { usable, unusable };
  const reason = unusable.length === 0 ? 'there is no private key' : unusable.join(', ');
  throw new VmctlError('SSH_AUTHENTICATION', `cannot log in as user "${target.user}": ${reason}`, {
    hint: encrypted
      ? 'vmctl does not ask for passphrases: use a key without one, or let the cloud-init block make one for this VM.'
      : 'Name a private key in the ssh block, or let the cloud-init block make one for this VM.',
    fields: { user: target.user },
  });
}

const HOST_KEY_ALGORITHMS: Readonly<Record<string, ServerHostKeyAlgorithm[]>> = {
  'ssh-ed25519': ['ssh-ed25519'],
  'ecdsa-sha2-nistp256': ['ecdsa-sha2-nistp256'],
  'ecdsa-sha2-nistp384': ['ecdsa-sha2-nistp384'],
  'ecdsa-sha2-nistp521': ['ecdsa-sha2-nistp521'],
  // RFC 8332: one key, three signatures.
  'ssh-rsa': ['rsa-sha2-512', 'rsa-sha2-256', 'ssh-rsa'],
};

/** The keys that the server may show; none where it may show any. */
function pinnedKeys({ hostKey }: SshTarget): readonly PublicKey[] {
  if (hostKey.kind === 'learn') return [];
  return [hostKey.publicKey, ...(hostKey.orElse === undefined ? [] : [hostKey.orElse])].map(parsePublicKey);
}

/** Only the pinned key's type is negotiated: a server with several keys would else show its favourite. */
function negotiable(pinned: PublicKey): ServerHostKeyAlgorithm[] {
  const algorithms = HOST_KEY_ALGORITHMS[pinned.type];
  if (algorithms !== undefined) return algorithms;
  throw new VmctlError('UNSUPPORTED', `vmctl cannot check a host key of type ${pinned.type}`, {
    hint: 'Use an Ed25519, ECDSA or RSA host key.',
  });
}

/** `ssh-ed25519 AAAA…`: the type stands at the beginning of the key itself (RFC 4253 6.6). */
function publicKeyLine(blob: Buffer): string {
  const type = blob.subarray(4, 4 + blob.readUInt32BE(0)).toString('latin1');
  return `${type} ${blob.toString('base64')}`;
}

function transportOf(client: Client): SshTransport {
  return {
    exec: (command, done) => void client.exec(command, done),
    sftp: (done) => void client.sftp(done),
    requestLimits,
    tcp: (port, done) => void client.forwardOut('127.0.0.1', 0, '127.0.0.1', port, done),
    signal: (channel, name) => sendSignal(client, channel, name),
    ping: (answered) => sendPing(client, answered),
    onError: (listener) => void client.on('error', listener),
    onClose: (listener) => void client.on('close', listener),
    end: () => void client.end(),
  };
}

/** What ssh2 has learned from the server, or assumes of it; it tells nobody. */
function requestLimits(session: object): RequestLimits {
  const limit = (name: string): number => {
    const bytes: unknown = Reflect.get(session, name);
    return typeof bytes === 'number' && bytes > 0 ? bytes : LEAST_REQUEST_BYTES;
  };
  const outgoing: unknown = Reflect.get(session, 'outgoing');
  return {
    read: limit('_maxReadLen'),
    write: limit('_maxWriteLen'),
    window: hasWindow(outgoing) ? outgoing.window : Infinity,
  };
}

function hasWindow(value: unknown): value is { readonly window: number } {
  return typeof value === 'object' && value !== null && 'window' in value && typeof value.window === 'number';
}

/**
 * ssh2's `channel.signal()` sends nothing once the command's input has been ended, although a signal is legal for as long
 * as the channel is open (RFC 4254 5.3, 6.9). So the message is made here, with the parts of ssh2 that make it there.
 */
function sendSignal(client: Client, channel: object, name: string): void {
  const protocol: unknown = Reflect.get(client, '_protocol');
  const outgoing: unknown = Reflect.get(channel, 'outgoing');
  if (!hasSignal(protocol) || !isOpen(outgoing)) return;
  protocol.signal(outgoing.id, name);
}

/** The request that ssh2 itself makes for its keepalive; it answers requests in the order in which they were made. */
function sendPing(client: Client, answered: () => void): void {
  const protocol: unknown = Reflect.get(client, '_protocol');
  const callbacks: unknown = Reflect.get(client, '_callbacks');
  if (!hasPing(protocol) || !Array.isArray(callbacks)) return;
  callbacks.push(answered);
  protocol.ping();
}

function hasPing(value: unknown): value is { ping(): void } {
  return typeof value === 'object' && value !== null && 'ping' in value && typeof value.ping === 'function';
}

function hasSignal(value: unknown): value is { signal(channelId: number, name: string): void } {
  return typeof value === 'object' && value !== null && 'signal' in value && typeof value.signal === 'function';
}

function isOpen(value: unknown): value is { readonly id: number } {
  if (typeof value !== 'object' || value === null || !('id' in value) || !('state' in value)) return false;
  return typeof value.id === 'number' && (value.state === 'open' || value.state === 'eof');
}
