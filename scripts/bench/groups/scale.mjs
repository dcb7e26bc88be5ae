// `up` of many VMs through the API, on the Noop backend: what vmctl itself costs for each VM, and that it grows with
// their number and no faster. Each run is a process of its own, on the built package.
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../../setup.mjs';
import { atMost, atMostValue, row } from '../lib/measure.mjs';

export const title = 'Scale';
export const about =
  'up of many VMs on a backend without guests, each against as many times a hundred of them as it has: 1 is linear.';

const FEWEST = 100;
const SIZES = [300, 1000, 3000];
const MOST_MS_A_VM = 10;
/** How much more a VM may cost among many than among the fewest. */
const MOST_GROWTH = 1.5;
/** The same for bytes of the list of VMs: it is written once or twice, by chance. Once for each VM would be 30 times. */
const MOST_BYTES = 2.5;

export async function run({ scratch, rounds }) {
  writeFileSync(join(scratch, 'disk.raw'), Buffer.alloc(1024 * 1024));
  const measured = (size) => measure(scratch, size);
  const empty = measured(1);
  const few = [];
  const many = new Map(SIZES.map((size) => [size, []]));
  for (let round = 0; round < rounds(3); round += 1) {
    few.push(measured(FEWEST));
    for (const size of SIZES) many.get(size).push(measured(size));
  }
  const compared = (size, name, { of, unit, bar }) =>
    row(`${name}, ${size} VMs`, {
      own: many.get(size).map(of),
      others: few.map((one) => (of(one) * size) / FEWEST),
      reference: `${size / FEWEST} × ${FEWEST} VMs`,
      unit,
      bar,
    });
  return [
    row(`time, ${FEWEST} VMs`, {
      own: few.map(({ ms }) => ms),
      others: few.map(() => FEWEST * MOST_MS_A_VM),
      reference: `${MOST_MS_A_VM} ms for each`,
      bar: atMost(1),
    }),
    ...SIZES.map((size) => compared(size, 'time', { of: ({ ms }) => ms, unit: 'ms', bar: atMost(MOST_GROWTH) })),
    ...SIZES.map((size) =>
      compared(size, 'memory beyond that for 1 VM', {
        of: ({ memory }) => memory - empty.memory,
        unit: 'bytes',
        bar: atMost(MOST_GROWTH),
      }),
    ),
    ...SIZES.map((size) =>
      compared(size, 'writes of the list of VMs', { of: ({ writes }) => writes, unit: '', bar: atMost(1) }),
    ),
    // Each write has all VMs so far, so as many bytes a VM as with few means fewer and fewer writes.
    ...SIZES.map((size) =>
      compared(size, 'bytes written of it', { of: ({ bytes }) => bytes, unit: 'bytes', bar: atMost(MOST_BYTES) }),
    ),
    ...[FEWEST, ...SIZES].map((size) =>
      row(`files written, ${size} VMs`, {
        own: (many.get(size) ?? few).map(({ files }) => files),
        others: few.map(() => size),
        reference: 'one for each',
        unit: '',
        bar: atMostValue(size * MOST_FILES_A_VM, `at most ${MOST_FILES_A_VM} for each`),
      }),
    ),
  ];
}

/** The handle, the record before and after the start, the steps that succeeded, and the end of provisioning. */
const MOST_FILES_A_VM = 8;

/** Milliseconds of an `up`, the most memory that its process had, and what it wrote of `vms.json` and in all. */
function measure(scratch, size) {
  const state = join(scratch, 'state');
  const program = `
    import fs from 'node:fs';
    import { syncBuiltinESMExports } from 'node:module';
    import { basename } from 'node:path';
    const written = { writes: 0, bytes: 0, files: 0 };
    const { rename } = fs.promises;
    fs.promises.rename = async (from, to) => {
      written.files += 1;
      if (basename(String(to)) === 'vms.json') {
        written.writes += 1;
        written.bytes += fs.statSync(from).size;
      }
      return rename(from, to);
    };
    syncBuiltinESMExports();
    const { up } = await import(${JSON.stringify(join(root, 'dist', 'index.js'))});
    const names = Array.from({ length: ${size} }, (_, i) => 'vm-' + i);
    const vm = { image: 'disk.raw', provision: [{ inline: 'true' }] };
    const begun = performance.now();
    const vms = await up({ vms: Object.fromEntries(names.map((name) => [name, vm])), backend: 'noop' });
    const ms = performance.now() - begun;
    console.log(JSON.stringify({ ms, memory: process.resourceUsage().maxRSS * 1024, ...written }));
    await vms.down();`;
  try {
    const options = { cwd: scratch, env: { ...process.env, VMCTL_STATE: state }, encoding: 'utf8' };
    return JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', program], options));
  } finally {
    rmSync(state, { recursive: true, force: true });
  }
}
