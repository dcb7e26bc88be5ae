// What a warm start saves: the first SSH command after a cold up, a warm one and a reset; how long a machine takes from
// its start to running, with much memory and with little; and what four machines from one frozen memory take together.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { buildGuest, root } from '../../setup.mjs';
import { atMost, atMostValue, median, row, timesFaster } from '../lib/measure.mjs';
import { Project } from '../lib/projects.mjs';

export const title = 'Warm start';
export const about =
  'From the command to the first SSH command’s end: a cold up, against a warm one and a reset of the same guest.';
export const programs = ['qemu-system-x86_64', 'qemu-img', 'ssh'];

/** How much faster a warm up has to be than a cold one. */
const FASTER = 15;
const MOST_LOADING_MS = 300;
/** From the command to the guest that runs again. */
const MOST_OF_RESET_MS = 1000;
/** Those of one block, each made a machine of its own. */
const CLONES = 4;
const CLONE = 'clone';
const MOST_MEMORY = 2.5;
/** The file that a restored guest's memory is. */
const FROZEN_MEMORY = 'memory';
/** What vmctl says of a guest that goes on, as soon as it does. */
const GOES_ON = 'setting its clock';
/** MiB. */
const SIZES = [512, 1024, 4096];
/** The memory of the machine whose cold and warm ups are compared, in MiB. */
const COMPARED = 1024;

export async function run({ scratch, rounds, guestImage }) {
  // The small guest boots in seconds, so that it tells less; it is for trying this out.
  const name = process.env['VMCTL_BENCH_GUEST'] ?? 'debian';
  const image = name === 'pocket' ? guestImage() : buildGuest(name);
  const projects = SIZES.map((size) => new Project(join(scratch, `warm-${size}`), { vmfile: vmfile(image, size) }));
  const fleet = new Project(join(scratch, 'warm-clones'), {
    vmfile: vmfile(image, COMPARED, `"${CLONE}" count=${CLONES}`),
  });
  try {
    for (const project of [...projects, fleet]) {
      await project.up();
      project.time('down', '--destroy');
    }
    const measured = { cold: [], warm: [], command: [], reset: [], ownOfReset: [], loading: SIZES.map(() => []) };
    for (let round = 0; round < rounds(5); round += 1) {
      for (const [i, project] of projects.entries()) {
        const compared = SIZES[i] === COMPARED;
        if (compared) {
          measured.cold.push((await firstCommand(project, ['--cold'])).whole);
          project.time('down', '--destroy');
        }
        const warm = await firstCommand(project, [], (ms) => measured.loading[i].push(ms));
        if (compared) {
          measured.warm.push(warm.whole);
          measured.command.push(warm.command);
          measured.reset.push(await resetAndCommand(project, (ms) => measured.ownOfReset.push(ms)));
        }
        project.time('down', '--destroy');
      }
    }
    return [
      ...againstCold(measured, `a cold up of ${name}`),
      ...clones(fleet, rounds(3)),
      ...SIZES.map((size, i) => loadingRow(size, measured.loading[i], measured.loading[0])),
    ];
  } finally {
    for (const project of [...projects, fleet]) project.dispose();
  }
}

function againstCold({ cold: others, warm, command, reset, ownOfReset }, reference) {
  const note = `the command is a login of its own, and takes ${Math.round(median(command))} ms of that`;
  const ofReset = atMostValue(MOST_OF_RESET_MS, 'at most 1 s');
  return [
    row('up, warm', { own: warm, others, reference, bar: timesFaster(FASTER), note }),
    row('reset', { own: reset, others, reference }),
    row('of that: until the guest goes on', { own: ownOfReset, others, reference, bar: ofReset }),
  ];
}

function loadingRow(size, own, others) {
  const bar = size === SIZES.at(-1) ? atMost(1.5) : atMostValue(MOST_LOADING_MS, `at most ${MOST_LOADING_MS} ms`);
  return row(`start to running, ${size} MiB`, { own, others, reference: `with ${SIZES[0]} MiB`, bar });
}

function vmfile(image, mebibytes, vm = '"warm"') {
  const block = `image "${image}"\n  vcpus 2\n  memory "${mebibytes}MiB"\n  cloud-init\n  ssh { timeout "20m" }\n  warm #true`;
  return `vm ${vm} {\n  ${block}\n  provision "shell" { inline "true" }\n}\n`;
}

/** Milliseconds from `up` to the end of a first command, and of that command; `loaded` is told how long the machine took to run. */
async function firstCommand(project, words, loaded = () => {}) {
  const begun = performance.now();
  let started = null;
  await project.up(words, ({ step, type, text, time }) => {
    if (step !== 'start') return;
    if (type === 'started') started = time;
    if (type === 'status' && text.startsWith(GOES_ON) && started !== null) {
      loaded(time - started);
      started = null;
    }
  });
  const command = project.time('exec', 'warm', '--', 'true');
  return { whole: performance.now() - begun, command };
}

/** The same for `reset`; `goesOn` is told after how long the guest ran again, and was waited for. */
async function resetAndCommand(project, goesOn) {
  const begun = performance.now();
  let waits = false;
  await project.follow(['reset', 'warm'], ({ type, text }, ms) => {
    if (waits || type !== 'status' || !text.startsWith(GOES_ON)) return;
    waits = true;
    goesOn(ms);
  });
  project.time('exec', 'warm', '--', 'true');
  return performance.now() - begun;
}

/**
 * The memory of several machines together, each page divided among those that share it (proc_pid_smaps(5), "Pss"), and how
 * much of that is the guests' own. What QEMU's software emulation translates is told, too: it is the only memory of QEMU
 * that can be both written and executed.
 */
function clones(project, count) {
  const program = `
    import { readFileSync } from 'node:fs';
    const { up } = await import(${JSON.stringify(join(root, 'dist', 'index.js'))});
    const pss = (pid) => {
      const sum = { all: 0, guest: 0, translated: 0 };
      let kind = null;
      for (const line of readFileSync('/proc/' + pid + '/smaps', 'utf8').split('\\n')) {
        const [, permissions, path] = /^[0-9a-f]+-[0-9a-f]+ (\\S+) \\S+ \\S+ \\S+ *(.*)$/.exec(line) ?? [];
        if (permissions !== undefined) {
          kind = permissions.startsWith('rwx') ? 'translated' : path.endsWith('/${FROZEN_MEMORY}') ? 'guest' : null;
        }
        const mebibytes = Number(/^Pss:\\s+(\\d+) kB/.exec(line)?.[1] ?? 0) / 1024;
        sum.all += mebibytes;
        if (kind !== null) sum[kind] += mebibytes;
      }
      return sum;
    };
    const sums = [];
    for (const vms of [['${CLONE}-1'], Array.from({ length: ${CLONES} }, (_, i) => '${CLONE}-' + (i + 1))]) {
      const fleet = await up({ vms });
      const sum = { all: 0, guest: 0, translated: 0 };
      for (const name of vms) await fleet.get(name).exec('true');
      for (const name of vms) {
        const own = pss((await fleet.get(name).status()).pid);
        for (const kind of Object.keys(sum)) sum[kind] += own[kind];
      }
      sums.push(sum);
      await fleet.down();
    }
    console.log(JSON.stringify(sums));`;
  const measured = [];
  for (let round = 0; round < count; round += 1) {
    const text = execFileSync(process.execPath, ['--input-type=module', '-e', program], {
      ...project.options,
      encoding: 'utf8',
    });
    measured.push(JSON.parse(text));
  }
  const compared = (what, of, note) => {
    const [own, others] = [measured.map(([, all]) => of(all)), measured.map(([one]) => of(one))];
    return row(what, { own, others, reference: 'one alone', unit: 'MiB', bar: atMost(MOST_MEMORY), note });
  };
  const translated = Math.round(median(measured.map(([one]) => one.translated)));
  const note =
    translated === 0
      ? ''
      : `of one machine's memory ${translated} MiB are code that software emulation has translated: each machine has its own, a clone at most 44 MiB; with KVM there is none`;
  return [
    compared(`memory of ${CLONES} clones`, ({ all }) => all, note),
    ...(translated === 0 ? [] : [compared('of that: without translated code', (sum) => sum.all - sum.translated, '')]),
    compared('of that: the memory of the guests', ({ guest }) => guest, ''),
  ];
}
