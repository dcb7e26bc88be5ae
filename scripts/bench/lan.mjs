// Two real guests on a LAN, beside the way that they had before: through a forward of the host, by 10.0.2.2. The same
// programs in the same guests send the same bytes over both, in turn; time is what the sending guest's clock says.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildGuest } from '../setup.mjs';

const MIB = 16;
const ROUND_TRIPS = 200;
const ROUNDS = 5;
const SINK = 5000;
const ECHO = 5001;

/** Rows for the table of `npm run bench`. */
export function lan({ program, scratch, measure }) {
  const folder = join(scratch, 'lan');
  mkdirSync(folder);
  const image = buildGuest('pocket');
  const vm = (name, more) =>
    `vm "${name}" {\n  image ${JSON.stringify(image)}\n  memory 256\n  cloud-init\n  ssh\n  network "user" { lan "bench"; ${more} }\n}\n`;
  writeFileSync(join(folder, 'VMFile.kdl'), vm('from', '') + vm('to', `forward 0 ${SINK}; forward 0 ${ECHO}`));
  const env = { ...process.env, XDG_DATA_HOME: join(folder, 'data') };
  const vmctl = (...words) =>
    execFileSync(process.execPath, [program, ...words], {
      cwd: folder,
      env,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  try {
    vmctl('up');
    // Servers that outlive the command: everything that they would hold open is elsewhere.
    vmctl(
      'exec',
      'to',
      '--',
      `for server in "-p ${SINK} -e dd of=/dev/null bs=64k" "-p ${ECHO} -e cat"; do nc -ll $server </dev/null >/dev/null 2>&1 & done`,
    );
    const { accelerator, forwards } = JSON.parse(vmctl('status', 'to', '--json'));
    const hostPort = (guest) => forwards.find((forward) => forward.guest === guest).host;
    /** Milliseconds that a script takes in the sending guest. */
    const time = (script) => {
      const clock = `awk '{ print $1 * 1000 }' /proc/uptime`;
      const [begun, ended] = vmctl(
        'exec',
        'from',
        '--',
        `bash -c '${clock.replaceAll("'", `'\\''`)}; ${script}; ${clock.replaceAll("'", `'\\''`)}'`,
      )
        .trim()
        .split('\n');
      return Number(ended) - Number(begun);
    };
    const send = (host, port) => time(`dd if=/dev/zero bs=64k count=${MIB * 16} 2>/dev/null | nc ${host} ${port}`);
    const ask = (host, port) =>
      time(
        `exec 3<>/dev/tcp/${host}/${port}; for ((i = 0; i < ${ROUND_TRIPS}; i++)); do echo x >&3; read -r -u 3; done`,
      );
    const row = (name, run, port) =>
      measure(`LAN: ${name} (${accelerator})`, () => run('to', port), {
        reference: { name: 'by a forward and 10.0.2.2', run: () => run('10.0.2.2', hostPort(port)) },
        bar: { words: '', met: () => true },
        rounds: ROUNDS,
      });
    return [row(`${MIB} MiB by TCP`, send, SINK), row(`${ROUND_TRIPS} round trips by TCP`, ask, ECHO)];
  } finally {
    vmctl('down', '--destroy', '--timeout', '0');
  }
}
