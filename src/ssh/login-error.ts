/** Why a login failed, in words for the user. */
import type { Buffer } from 'node:buffer';
import { VmctlError } from '../errors.js';
import type { Endpoint } from '../model/vm.js';
import { type PublicKey, fingerprint } from './keys.js';
import type { SshTarget } from './target.js';

export interface LoginFacts {
  readonly target: SshTarget;
  /** The keys of which one must be shown; none when any may. */
  readonly accepted: readonly PublicKey[];
  /** The key that was shown; null when it did not come to that. */
  readonly shown: Buffer | null;
  readonly offered: readonly string[];
  /** Keys that could not be offered, each with the reason. */
  readonly unusable: readonly string[];
  /** What the server said to the user before the login, such as why nobody may log in now. */
  readonly banner: string;
}

/** Turns what ssh2 reports into `SSH_HOST_KEY`, `SSH_AUTHENTICATION` or `SSH_TRANSPORT`. */
export function loginError(error: unknown, facts: LoginFacts): VmctlError {
  if (error instanceof VmctlError) return error;
  const { shown } = facts;
  const pinned = facts.accepted[0] ?? null;
  const words = error instanceof Error ? error.message : String(error);
  if (pinned !== null && shown !== null && !facts.accepted.some(({ blob }) => blob.equals(shown))) {
    return hostKeyError(facts, pinned, `it shows ${fingerprint(shown)}`);
  }
  if (pinned !== null && words.includes('no matching host key format')) {
    return hostKeyError(facts, pinned, `it has no ${pinned.type} key`);
  }
  if (isRefusal(error, words)) return authenticationError(error, facts);
  return transportError(`cannot log in over SSH at ${place(facts.target.endpoint)}: ${words}`, facts.target, error);
}

export function transportError(message: string, target: SshTarget, cause?: unknown): VmctlError {
  return new VmctlError('SSH_TRANSPORT', message, { cause, fields: endpointFields(target) });
}

/** `127.0.0.1:40022`, `[::1]:22`. */
export function place(endpoint: Endpoint): string {
  return `${endpoint.host.includes(':') ? `[${endpoint.host}]` : endpoint.host}:${endpoint.port}`;
}

function hostKeyError(facts: LoginFacts, pinned: PublicKey, found: string): VmctlError {
  const { target, shown } = facts;
  const expected = fingerprint(pinned.blob);
  const message = `the SSH server at ${place(target.endpoint)} is not the VM that was expected: ${found}, and the pinned host key is ${expected}`;
  return new VmctlError('SSH_HOST_KEY', message, {
    hint: 'Another machine answers on this port, or the image ignored the host key in its seed. Nothing was sent to it.',
    fields: { ...endpointFields(target), expected, shown: shown === null ? null : fingerprint(shown) },
  });
}

/** OpenSSH breaks off with "Too many authentication failures" after six keys (MaxAuthTries), instead of refusing the last. */
function isRefusal(error: unknown, words: string): boolean {
  const level = error instanceof Error && 'level' in error ? error.level : null;
  return level === 'client-authentication' || /authentication failures|no more auth/i.test(words);
}

function authenticationError(error: unknown, facts: LoginFacts): VmctlError {
  const { target, offered, unusable, banner } = facts;
  const keys = offered.length === 1 ? `the key ${offered[0]}` : `all ${offered.length} keys (${offered.join(', ')})`;
  const skipped = unusable.length === 0 ? '' : `; not offered: ${unusable.join(', ')}`;
  const message = `the guest at ${place(target.endpoint)} refuses ${keys} for user "${target.user}"${skipped}`;
  return new VmctlError('SSH_AUTHENTICATION', message, {
    hint: 'Check the user in the ssh block, and that the image reads its seed (cloud-init).',
    cause: error,
    ...(banner.trim() === '' ? {} : { details: banner.trim() }),
    fields: { ...endpointFields(target), user: target.user },
  });
}

function endpointFields({ endpoint }: SshTarget): { host: string; port: number } {
  return { host: endpoint.host, port: endpoint.port };
}
