/** The guest images that end-to-end tests boot: built from packages by test/guest, and cached. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const builder = fileURLToPath(new URL('../guest/build.sh', import.meta.url));

/** The path of a guest image. `npm test` has built it; a test that is run by itself builds it when it is missing. */
export async function guestImage(name: 'pocket' | 'debian'): Promise<string> {
  const built = process.env[`VMCTL_TEST_${name.toUpperCase()}`];
  if (built !== undefined && built !== '') return built;
  const { stdout } = await promisify(execFile)(builder, [name], { encoding: 'utf8' });
  return stdout.trim();
}
