/** The VMs of another process: everything but their end. */
import { readFile } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import * as v from 'valibot';
import { VmctlError } from '../errors.js';
import { baseOf } from '../lifetime/run.js';
import { statePaths } from '../paths.js';
import { exists } from '../util/fs.js';
import { attachedFleet, machinesOf } from './fleet.js';
import { type Outside, outsideOf } from './outside.js';
import { environmentFor } from './session.js';
import type { AttachedFleet, FleetConnection } from './types.js';

const connectionSchema = v.object({
  schemaVersion: v.literal(1),
  stateDirectory: v.pipe(
    v.string(),
    v.check((path) => isAbsolute(path)),
  ),
  vms: v.record(v.string(), v.unknown()),
});

/**
 * Gives the VMs that another process has brought up: what the `toJSON()` of its fleet gave, or the path of a file with
 * that text, as `vmctl run` hands it to its command in `VMCTL_CONNECTION`. They are as they are now, wherever they have
 * moved meanwhile. Throws `USAGE` for anything else, `VM_NOT_FOUND` when they are gone.
 */
export async function attach<const N extends string = string>(
  connection: FleetConnection | string,
): Promise<AttachedFleet<N>> {
  return attachIn(connection);
}

/** @internal In a given world. */
export async function attachIn<N extends string>(
  connection: FleetConnection | string,
  given?: Outside,
): Promise<AttachedFleet<N>> {
  const content: unknown = typeof connection === 'string' ? await readConnection(connection) : connection;
  const parsed = v.safeParse(connectionSchema, content);
  if (!parsed.success) {
    const where = typeof connection === 'string' ? connection : 'what was given to attach()';
    throw new VmctlError('USAGE', `${where} tells of no VMs: ${parsed.issues[0].message}`, {
      hint: 'attach() takes what the toJSON() of a fleet gives, or the path in VMCTL_CONNECTION.',
    });
  }
  const { stateDirectory, vms } = parsed.output;
  if (!(await exists(stateDirectory))) {
    throw new VmctlError('VM_NOT_FOUND', `the VMs in ${stateDirectory} are gone`, {
      hint: 'They end with the process that brought them up.',
      fields: { path: stateDirectory },
    });
  }
  const outside = given ?? outsideOf({});
  const { loadSettings } = await import('../settings/load.js');
  const own = statePaths(stateDirectory);
  const base = await baseOf(own);
  const paths = { ...own, images: base.images, host: base.host };
  const env = environmentFor({ outside, settings: await loadSettings(outside) }, paths);
  return attachedFleet<N>(env, await machinesOf(env, Object.keys(vms)));
}

async function readConnection(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    const words = cause instanceof Error ? cause.message : String(cause);
    throw new VmctlError('USAGE', `the connection file ${path} cannot be read: ${words}`, {
      hint: 'The VMs that it tells of may be gone.',
      cause,
      fields: { path },
    });
  }
}
