// Two real guests on a LAN, beside the way that they have without one: through a forward of the host, by 10.0.2.2. The
// same programs in the same guests send the same bytes over both, in turn; time is what the sending guest's clock says.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { compare } from '../lib/measure.mjs';
import { pocketProject } from '../lib/projects.mjs';

export const title = 'LAN';
export const about =
  'What two guests send each other on their LAN, against a forward of the host, by which the one reaches the other as 10.0.2.2.';
export const programs = ['qemu-system-x86_64', 'qemu-img'];

const MIB = 16;
const ROUND_TRIPS = 200;
const SINK = 5000;
const ECHO = 5001;

export async function run({ scratch, rounds, guestImage }) {
  const project = pocketProject(join(scratch, 'lan'), guestImage(), {
    from: '  network "user" { lan "bench" }',
    to: `  network "user" { lan "bench"; forward 0 ${SINK}; forward 0 ${ECHO} }`,
  });
  try {
    project.time('up');
    // Servers that outlive the command: everything that they would hold open is elsewhere.
    const servers = `"-p ${SINK} -e dd of=/dev/null bs=64k" "-p ${ECHO} -e cat"`;
    project.read('exec', 'to', '--', `for s in ${servers}; do nc -ll $s </dev/null >/dev/null 2>&1 & done`);
    const { accelerator, forwards } = JSON.parse(project.read('status', 'to', '--json'));
    const hostPort = (guest) => forwards.find((forward) => forward.guest === guest).host;
    const send = (host, port) =>
      time(project, `dd if=/dev/zero bs=64k count=${MIB * 16} 2>/dev/null | nc ${host} ${port}`);
    const ask = (host, port) =>
      time(
        project,
        `exec 3<>/dev/tcp/${host}/${port}; for ((i = 0; i < ${ROUND_TRIPS}; i++)); do echo x >&3; read -r -u 3; done`,
      );
    const against = (name, measured, port) =>
      compare(`${name} (${accelerator})`, () => measured('to', port), {
        reference: { name: 'by a forward and 10.0.2.2', run: () => measured('10.0.2.2', hostPort(port)) },
        rounds: rounds(5),
      });
    return [
      await against(`${MIB} MiB by TCP`, send, SINK),
      await against(`${ROUND_TRIPS} round trips by TCP`, ask, ECHO),
    ];
  } finally {
    project.dispose();
  }
}

/** Milliseconds that a script takes in the sending guest. */
function time(project, script) {
  const file = join(project.folder, 'measured.sh');
  const clock = `awk '{ print $1 * 1000 }' /proc/uptime`;
  writeFileSync(file, `${clock}\n${script}\n${clock}\n`);
  project.read('cp', file, 'from:/tmp/measured.sh');
  const [begun, ended] = project.read('exec', 'from', '--', 'bash /tmp/measured.sh').trim().split('\n');
  return Number(ended) - Number(begun);
}
