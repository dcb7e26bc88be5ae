// How long after the guest's SSH server has said on the console that it listens does vmctl say that the guest is ready.
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { atMostValue, row } from '../lib/measure.mjs';
import { pocketProject } from '../lib/projects.mjs';

export const title = 'Readiness';
export const about =
  'From the line with which the guest’s SSH server says on the console that it listens, to vmctl’s “ready”: the login included, against one login of ssh to the same guest.';
export const programs = ['qemu-system-x86_64', 'qemu-img', 'ssh'];

/** What the small guest prints when its server listens. */
const STARTED = 'sshd listening';
const MOST_MS = 150;

const EMULATED =
  'an emulated processor takes most of that time to exchange keys and to check signatures, whoever logs in';

export async function run({ scratch, rounds, guestImage }) {
  const project = pocketProject(scratch, guestImage(), { pocket: '' });
  const [delays, banners, logins] = [[], [], []];
  let emulated = false;
  try {
    for (let round = 0; round < rounds(7); round += 1) {
      const { listening, banner, ready } = await boot(project);
      delays.push(ready - listening);
      banners.push(banner - listening);
      logins.push(login(project));
      emulated = JSON.parse(project.read('status', 'pocket', '--json')).accelerator === 'tcg';
      project.time('down', '--destroy');
    }
    const reference = 'one login with ssh';
    const bar = atMostValue(MOST_MS, `at most ${MOST_MS} ms`);
    const note = emulated ? EMULATED : '';
    return [
      row('sshd listens to “ready”', { own: delays, others: logins, reference, bar, note }),
      row('of that: until its banner is seen', { own: banners, others: logins, reference }),
    ];
  } finally {
    project.dispose();
  }
}

/** When the server said so, when its banner came, and when somebody was logged in: milliseconds since the epoch. */
async function boot(project) {
  const times = { listening: null, banner: null, ready: null };
  const watch = new ConsoleWatch(
    join(project.directory('pocket'), 'console.log'),
    () => (times.listening ??= Date.now()),
  );
  try {
    await project.up([], (event) => {
      if (event.step !== 'provision') return;
      if (event.type === 'done') times.ready = event.time;
      if (event.type === 'status' && event.text.startsWith('SSH answers')) times.banner ??= event.time;
    });
  } finally {
    watch.end();
  }
  if (times.listening === null) throw new Error(`the guest never said "${STARTED}"`);
  return times;
}

/** Looks at the end of a console log every 2 ms. */
class ConsoleWatch {
  #text = '';
  #file = null;
  #timer;

  constructor(path, onStarted) {
    const chunk = Buffer.alloc(64 * 1024);
    this.#timer = setInterval(() => {
      try {
        this.#file ??= openSync(path, 'r');
      } catch {
        return;
      }
      this.#text = (this.#text + chunk.toString('latin1', 0, readSync(this.#file, chunk))).slice(-256 * 1024);
      if (this.#text.includes(STARTED)) onStarted();
    }, 2);
  }

  end() {
    clearInterval(this.#timer);
    if (this.#file !== null) closeSync(this.#file);
  }
}

function login(project) {
  const config = join(project.folder, 'ssh.conf');
  writeFileSync(config, project.read('ssh-config'));
  const begun = performance.now();
  execFileSync('ssh', ['-F', config, 'pocket', 'true'], { stdio: 'ignore' });
  return performance.now() - begun;
}
