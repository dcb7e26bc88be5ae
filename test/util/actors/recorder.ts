/** Records VMs in a registry. */
import { statePaths } from '../../../src/paths.js';
import { Registry } from '../../../src/registry.js';
import { putVm } from '../../support/fixtures.js';
import { serve } from './serve.js';

async function add(root: string, names: readonly string[]): Promise<void> {
  const paths = statePaths(root);
  const registry = new Registry({ paths, command: 'recorder' });
  await Promise.all(names.map(async (name) => registry.add(await putVm(paths, { name }))));
}

/** What was told about repairs, and the names on the list. */
async function list(root: string): Promise<{ notes: readonly string[]; names: readonly string[] }> {
  const notes: string[] = [];
  const registry = new Registry({ paths: statePaths(root), command: 'lister', onNote: (note) => notes.push(note) });
  return { names: (await registry.list()).map(({ name }) => name), notes };
}

serve({ add, list });
