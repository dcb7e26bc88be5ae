/**
 * The identity of a VM that is a copy of another one: chosen before the guest has it, and kept beside the VM, which has
 * the same one whenever it goes back to what it is a copy of. Until the guest is known to have it, the host keys of before
 * and after are both pinned; then its own alone.
 */
import { join } from 'node:path';
import * as v from 'valibot';
import { VmctlError } from '../src/errors.js';
import type { StageContext } from '../src/model/event.js';
import type { VmHandle } from '../src/model/vm.js';
import { VM_FILES } from '../src/paths.js';
import {
  type FormerIdentity,
  type GivenIdentity,
  type Identity,
  giveIdentity,
  newIdentity,
} from '../src/provision/identity.js';
import type { SshConnection } from '../src/ssh/client.js';
import { knownHostsLine } from '../src/ssh/keys.js';
import { readTextIfPresent, writeFileAtomically } from '../src/util/fs.js';

const fileSchema = v.object({
  schemaVersion: v.literal(1),
  machineId: v.string(),
  hostKey: v.object({ privateKey: v.string(), publicKey: v.string() }),
});

/** What the guest is before it is given an identity; `publicKey` is the host key that it shows. */
export interface Origin extends FormerIdentity {
  readonly publicKey: string;
}

/** What is to become of a guest. */
export interface ChosenIdentity {
  readonly former: Origin;
  readonly own: Identity;
}

type Place = Pick<VmHandle, 'name' | 'directory'>;

/** Chooses an identity, or the one that the VM has had before. From now on the guest may show either host key. */
export async function chooseIdentity(place: Place, given: GivenIdentity, former: Origin): Promise<ChosenIdentity> {
  const path = join(place.directory, VM_FILES.identity);
  const text = await readTextIfPresent(path);
  const earlier = v.safeParse(v.pipe(v.string(), v.parseJson(), fileSchema), text);
  const own = earlier.success
    ? { ...given, machineId: earlier.output.machineId, hostKey: earlier.output.hostKey }
    : newIdentity(given, `vmctl ${place.name} host key`);
  if (!earlier.success) {
    const file = { schemaVersion: 1, machineId: own.machineId, hostKey: own.hostKey };
    await writeFileAtomically(path, `${JSON.stringify(file, null, 2)}\n`);
  }
  await pin(place, [former.publicKey, own.hostKey.publicKey]);
  return { former, own };
}

/** Gives the guest that identity, over a connection that is logged in. From now on it has to show its own host key. */
export async function giveChosenIdentity(
  place: Place,
  { former, own }: ChosenIdentity,
  connection: SshConnection,
  { signal, reporter }: StageContext,
): Promise<void> {
  reporter.status(`making it ${own.hostname}`);
  await giveIdentity(connection, { identity: own, former }, { name: place.name, signal });
  await pin(place, [own.hostKey.publicKey]);
}

/** The host key that is pinned in a known_hosts file. Throws `VM_DAMAGED` where there is none. */
export async function pinnedKey(path: string): Promise<string> {
  const [line = ''] = (await readTextIfPresent(path))?.split('\n') ?? [];
  const [, type, key] = line.split(' ');
  if (type !== undefined && key !== undefined) return `${type} ${key}`;
  throw new VmctlError('VM_DAMAGED', `no host key is pinned in ${path}`, { fields: { path } });
}

async function pin({ name, directory }: Place, publicKeys: readonly string[]): Promise<void> {
  const lines = publicKeys.map((key) => knownHostsLine(name, key));
  await writeFileAtomically(join(directory, VM_FILES.knownHosts), lines.join(''));
}
