// The whole test suite, with everything that it needs on a fresh machine. Arguments go to the test runner.
import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import {
  buildGuest,
  buildsGuests,
  ensureDebianPackages,
  ensureNodePackages,
  ensurePrograms,
  giveUp,
  root,
  run,
  say,
} from './setup.mjs';

const PROGRAMS = [
  'qemu-system-x86_64',
  'qemu-img',
  'ssh',
  'xorriso',
  'isoinfo',
  'sshd',
  'dropbear',
  'ip',
  'dnsmasq',
  'tmux',
  'zstd',
  'xz',
  'bzip2',
  'zsh',
  'fish',
  'docker-registry',
];

/** The variable by which whatever a test starts is known. */
const MARK = 'TESTS_OF_VMCTL';

if (!buildsGuests()) giveUp('The tests build their guests from packages, and so run on Debian and Ubuntu only.');
ensureNodePackages();
ensurePrograms(PROGRAMS);
ensureDebianPackages(['ovmf'], 'the tests of UEFI need its firmware');
say('building vmctl');
run(process.execPath, ['scripts/build.mjs']);
const guests = {};
for (const name of ['pocket', 'debian']) {
  say(`guest image: ${name}`);
  // Without random addresses QEMU translates a program once, not in each run: Debian boots in two thirds of the time.
  guests[name] = buildGuest(name, { kernel: 'norandmaps' });
}

const reports = mkdtempSync(join(tmpdir(), 'vmctl-test-'));
const report = join(reports, 'report.json');
const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
const options = ['run', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
const mine = randomUUID();
const { status } = spawnSync(process.execPath, [vitest, ...options, ...process.argv.slice(2)], {
  cwd: root,
  stdio: 'inherit',
  env: {
    ...process.env,
    VMCTL_TEST_POCKET: guests.pocket,
    VMCTL_TEST_DEBIAN: guests.debian,
    [MARK]: mine,
  },
});
const left = await leftRunning(`${MARK}=${mine}`);
const results = readReport();
rmSync(reports, { recursive: true, force: true });

const unexplained = skippedWithoutReason(results);
for (const name of unexplained) process.stdout.write(`Skipped, and not named in test/skipped.json: ${name}\n`);
for (const words of left) process.stdout.write(`Left running by a test: ${words}\n`);
const { numPassedTests: passed, numFailedTests: failed, numPendingTests: pending, numTodoTests: todo } = results;
process.stdout.write(`${passed} passed, ${failed} failed, ${pending + todo} skipped\n`);
process.exit(status === 0 && unexplained.length + left.length > 0 ? 1 : (status ?? 1));

/** The command lines of processes that have inherited the mark and do not end by themselves; they are killed. */
async function leftRunning(mark) {
  const found = () =>
    readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && readProcess(pid, 'environ').split('\0').includes(mark));
  // What the last test ended may need a moment.
  for (let tenths = 0; tenths < 100 && found().length > 0; tenths += 1) await pause(100);
  return found().map((pid) => {
    const words = readProcess(pid, 'cmdline').replaceAll('\0', ' ');
    process.kill(Number(pid), 'SIGKILL');
    return `${pid} ${words}`;
  });
}

/** Empty for one that has ended. */
function readProcess(pid, file) {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}

function readReport() {
  try {
    return JSON.parse(readFileSync(report, 'utf8'));
  } catch {
    return giveUp('The test runner ended without a report.');
  }
}

/** A skipped test proves nothing, so each needs a reason that is written down. */
function skippedWithoutReason({ testResults }) {
  const reasons = JSON.parse(readFileSync(join(root, 'test', 'skipped.json'), 'utf8'));
  return testResults
    .flatMap(({ assertionResults }) => assertionResults)
    .filter((test) => !['passed', 'failed'].includes(test.status))
    .map((test) => test.fullName)
    .filter((name) => !Object.hasOwn(reasons, name));
}
