// `up` of many VMs through the API, on the Noop backend: what vmctl itself costs for each VM, and that it grows with
// their number and no faster. Each run is a process of its own, on the built package.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../setup.mjs';

const SIZES = [100, 300, 1000];
const ROUNDS = 3;
const MOST_MS_A_VM = 10;
/** How much more a VM may cost among many than among the fewest. */
const MOST_GROWTH = 1.5;

/** Rows for the table of `npm run bench`; the reference of each size is as many VMs at the price of the fewest. */
export function upGroup(scratch) {
  const folder = join(scratch, 'up');
  mkdirSync(folder);
  writeFileSync(join(folder, 'disk.raw'), Buffer.alloc(1024 * 1024));
  const program = `
    const { up } = await import(${JSON.stringify(join(root, 'dist', 'index.js'))});
    const names = Array.from({ length: Number(process.argv[1]) }, (_, i) => 'vm-' + i);
    const vm = { image: 'disk.raw', provision: [{ inline: 'true' }] };
    const begun = performance.now();
    const vms = await up({ vms: Object.fromEntries(names.map((name) => [name, vm])), backend: 'noop' });
    console.log(performance.now() - begun);
    await vms.down();`;
  const env = { ...process.env, XDG_DATA_HOME: join(folder, 'data') };
  const options = { cwd: folder, env, encoding: 'utf8' };
  const time = (size) =>
    Number(execFileSync(process.execPath, ['--input-type=module', '-e', program, String(size)], options));
  const times = SIZES.map((size) => Array.from({ length: ROUNDS }, () => time(size)).toSorted((a, b) => a - b));
  const msAmongFewest = times[0][1] / SIZES[0];
  return SIZES.map((size, i) => {
    const [least, medianMs, most] = times[i];
    const referenceMs = msAmongFewest * size;
    return {
      name: `API: up of ${size} VMs on Noop`,
      reference: `${size} × the price of one of ${SIZES[0]}:`,
      medianMs,
      referenceMs,
      ratio: medianMs / referenceMs,
      spread: [least, most],
      bar: {
        words: `at most ${MOST_MS_A_VM} ms a VM, and ${MOST_GROWTH} times the reference`,
        met: (result) => result.medianMs <= size * MOST_MS_A_VM && result.ratio <= MOST_GROWTH,
      },
    };
  });
}
