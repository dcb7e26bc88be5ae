/**
 * The identity of a VM that is a copy of another one: chosen before the guest has it, and kept beside the VM, so that
 * whoever was interrupted goes on with the same one. Until the guest is known to have it, the keys of before and after
 * are both pinned; then its own alone.
 */
import { join } from 'node:path';
import * as v from 'valibot';
import { VmctlError } from '../src/errors.js';
import type { StageContext } from '../src/model/event.js';
import type { VmHandle } from '../src/model/vm.js';
import { VM_FILES } from '../src/paths.js';
import { type FormerIdentity, giveIdentity, newIdentity } from '../src/provision/identity.js';
import type { SshConnection } from '../src/ssh/client.js';
import { knownHostsLine } from '../src/ssh/keys.js';
import { readTextIfPresent, writeFileAtomically } from '../src/util/fs.js';

const keySchema = v.object({ privateKey: v.string(), publicKey: v.string() });

const fileSchema = v.object({
  schemaVersion: v.literal(1),
  /** True once the guest has shown its new host key. */
  given: v.boolean(),
  former: v.object({ hostname: v.string(), mac: v.nullable(v.string()), publicKey: v.string() }),
  own: v.object({ hostname: v.string(), mac: v.nullable(v.string()), machineId: v.string(), hostKey: keySchema }),
});

type IdentityFile = v.InferOutput<typeof fileSchema>;

/** What the guest is before it is given an identity; `publicKey` is the host key that it shows. */
export interface Origin extends FormerIdentity {
  readonly publicKey: string;
}

/** Chooses an identity for the VM of this directory, which is not on its way yet: one that it has had before stays. */
export async function chooseIdentity(
  directory: string,
  vm: { readonly name: string; readonly hostname: string; readonly mac: string | null },
  former: Origin,
): Promise<void> {
  const earlier = await readIdentity(directory);
  const own = earlier?.own ?? newIdentity({ hostname: vm.hostname, mac: vm.mac }, `vmctl ${vm.name} host key`);
  await writeIdentity(directory, { schemaVersion: 1, given: false, former, own });
  await pin(directory, vm.name, [former.publicKey, own.hostKey.publicKey]);
}

/** Whether the VM is to be given an identity before it is what it should be. */
export async function awaitsIdentity({ directory }: Pick<VmHandle, 'directory'>): Promise<boolean> {
  return (await readIdentity(directory))?.given === false;
}

/**
 * Gives the guest the identity that was chosen, and gives a connection on which it has shown its new host key.
 * `connect` logs in with whatever is pinned at that moment, and tries again while the guest shows another key.
 */
export async function giveChosenIdentity(
  { handle, user }: { readonly handle: Pick<VmHandle, 'name' | 'directory'>; readonly user: string },
  connect: () => Promise<SshConnection>,
  { signal, reporter }: StageContext,
): Promise<SshConnection> {
  const { name, directory } = handle;
  const file = await readIdentity(directory);
  if (file === null) throw new VmctlError('INTERNAL', `Internal error: no identity was chosen for "${name}"`);
  const { own, former } = file;
  reporter.status(`becoming ${own.hostname}`);
  await pin(directory, name, [former.publicKey, own.hostKey.publicKey]);
  {
    await using connection = await connect();
    await giveIdentity(connection, { identity: own, former }, { name, user, signal });
  }
  await pin(directory, name, [own.hostKey.publicKey]);
  const connection = await connect();
  await writeIdentity(directory, { ...file, given: true });
  return connection;
}

async function pin(directory: string, name: string, publicKeys: readonly string[]): Promise<void> {
  const lines = publicKeys.map((key) => knownHostsLine(name, key));
  await writeFileAtomically(join(directory, VM_FILES.knownHosts), lines.join(''));
}

async function readIdentity(directory: string): Promise<IdentityFile | null> {
  const path = join(directory, VM_FILES.identity);
  const text = await readTextIfPresent(path);
  if (text === null) return null;
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), fileSchema), text);
  if (parsed.success) return parsed.output;
  throw new VmctlError('VM_DAMAGED', `${path} is unreadable`, { fields: { path } });
}

function writeIdentity(directory: string, file: IdentityFile): Promise<void> {
  const path = join(directory, VM_FILES.identity);
  return writeFileAtomically(path, `${JSON.stringify(file, null, 2)}\n`);
}
