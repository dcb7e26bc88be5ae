// `up` of many VMs through the API, on the Noop backend: what vmctl itself costs for each VM, and that it grows with
// their number and not faster. Each size is a process of its own, on the built package.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../setup.mjs';

const SIZES = [100, 300, 1000];
const MOST_MS_A_VM = 10;
/** How much more a VM may cost among the most than among the fewest; start-up costs are shared by fewer there. */
const MOST_GROWTH = 1.5;

/** Milliseconds of `up` for each size, the best of some rounds: noise only ever adds. */
export function upGroup({ scratch, rounds }) {
  const folder = join(scratch, 'up');
  mkdirSync(folder);
  writeFileSync(join(folder, 'disk.raw'), Buffer.alloc(1024 * 1024));
  const entry = JSON.stringify(join(root, 'dist', 'index.js'));
  const program = `
    const { up } = await import(${entry});
    const names = Array.from({ length: Number(process.argv[1]) }, (_, i) => 'vm-' + i);
    const vm = { image: 'disk.raw', provision: [{ inline: 'true' }] };
    const begun = performance.now();
    const vms = await up({ vms: Object.fromEntries(names.map((name) => [name, vm])), backend: 'noop' });
    console.log(performance.now() - begun);
    await vms.down();`;
  const env = { ...process.env, XDG_DATA_HOME: join(folder, 'data') };
  const once = (size) =>
    Number(
      execFileSync(process.execPath, ['--input-type=module', '-e', program, String(size)], {
        cwd: folder,
        env,
        encoding: 'utf8',
      }),
    );
  const best = new Map(SIZES.map((size) => [size, Math.min(...Array.from({ length: rounds }, () => once(size)))]));
  const fewest = best.get(SIZES[0]) / SIZES[0];
  return SIZES.map((size) => {
    const ms = best.get(size);
    const each = ms / size;
    return {
      name: `up of ${size} VMs, API, Noop`,
      ms,
      msEach: each,
      bar: `at most ${MOST_MS_A_VM} ms a VM, and ${MOST_GROWTH} times that of ${SIZES[0]}`,
      met: each <= MOST_MS_A_VM && each <= fewest * MOST_GROWTH,
    };
  });
}
