/** Makes a guest another machine, over SSH: for copies of one that was set up before. */
import { randomBytes } from 'node:crypto';
import { VmctlError } from '../errors.js';
import type { SshConnection } from '../ssh/client.js';
import { generateKeyPair } from '../ssh/keys.js';
import { AS_ROOT } from './as-root.js';
import { type FormerIdentity, type Identity, identityScript } from './identity-script.js';

export type { FormerIdentity, Identity } from './identity-script.js';

/** An emulated guest with systemd needs some seconds. */
const TIMEOUT_MS = 60_000;

/** What its VM's name and place make of it. */
export type GivenIdentity = Pick<Identity, 'hostname' | 'mac' | 'lanAddress'>;

/** What only this machine has; `comment` names it in its host key. */
export function newIdentity(given: GivenIdentity, comment: string): Identity {
  // A machine-id is a random UUID of version 4 (machine-id(5)).
  const id = randomBytes(16);
  id[6] = ((id[6] ?? 0) & 0x0f) | 0x40;
  id[8] = ((id[8] ?? 0) & 0x3f) | 0x80;
  return { ...given, machineId: id.toString('hex'), hostKey: generateKeyPair(comment) };
}

export interface IdentityOptions {
  /** The VM's name, for messages. */
  readonly name: string;
  readonly signal: AbortSignal;
}

/**
 * Gives the guest its hostname, the line of it in `/etc/hosts`, a machine-id, its addresses and an SSH host key. This
 * connection stays as it is; the next one is shown the new key. What the guest has already is left alone, so it may be
 * done again. Throws `PROVISION_FAILED` with the guest's words, `SSH_TRANSPORT`, `TIMEOUT`, `ABORTED`.
 */
export async function giveIdentity(
  connection: SshConnection,
  { identity, former }: { readonly identity: Identity; readonly former: FormerIdentity },
  { name, signal }: IdentityOptions,
): Promise<void> {
  const errors: Buffer[] = [];
  const { exitCode } = await connection.exec(AS_ROOT, {
    stdin: identityScript(identity, former),
    onStderr: (chunk) => void errors.push(chunk),
    timeoutMs: TIMEOUT_MS,
    signal,
  });
  if (exitCode === 0) return;
  const words = Buffer.concat(errors).toString('utf8').trim();
  throw new VmctlError('PROVISION_FAILED', `VM "${name}" could not be made a machine of its own: ${lastLine(words)}`, {
    hint: 'A copy needs OpenSSH or dropbear in it, and a user who may use sudo without a password.',
    ...(words.includes('\n') ? { details: words } : {}),
    fields: { vm: name, exitCode },
  });
}

function lastLine(words: string): string {
  return words.split('\n').at(-1) || 'the guest said nothing';
}
