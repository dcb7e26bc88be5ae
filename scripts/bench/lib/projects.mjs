// Folders with a VMFile and a state directory of their own, and vmctl in them.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { root } from '../../setup.mjs';

export const program = join(root, 'dist', 'cli.js');

/** Milliseconds of one run of Node.js, which has to succeed. */
export function timeNode(words, options = {}) {
  const begun = performance.now();
  const { status, stderr } = spawnSync(process.execPath, words, { ...options, stdio: ['ignore', 'ignore', 'pipe'] });
  if (status !== 0) throw new Error(`${words.join(' ')} failed with exit code ${status}: ${String(stderr)}`);
  return performance.now() - begun;
}

export class Project {
  constructor(folder, { vmfile, variables = {} }) {
    this.folder = folder;
    this.state = join(folder, 'state');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'VMFile.kdl'), vmfile);
    this.options = { cwd: folder, env: { ...process.env, VMCTL_STATE: this.state, ...variables } };
  }

  /** Milliseconds of one command, which has to succeed. */
  time(...words) {
    return timeNode([program, ...words], this.options);
  }

  /** What a command prints. */
  read(...words) {
    return execFileSync(process.execPath, [program, ...words], {
      ...this.options,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    });
  }

  /** Runs `up --json` and calls back for each event; gives the milliseconds that all of it took. */
  up(words = [], onEvent = () => {}) {
    return this.follow(['up', ...words], onEvent);
  }

  /** The same for any command that can tell its events, each with the milliseconds since it was started. */
  async follow(words, onEvent) {
    const begun = performance.now();
    const child = spawn(process.execPath, [program, ...words, '--json'], {
      ...this.options,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let errors = '';
    child.stderr.on('data', (chunk) => (errors += String(chunk)));
    const lines = createInterface({ input: child.stdout });
    lines.on('line', (line) => onEvent(JSON.parse(line), performance.now() - begun));
    const [[code]] = await Promise.all([once(child, 'exit'), once(lines, 'close')]);
    if (code !== 0) throw new Error(`${words[0]} failed with exit code ${code}: ${errors}`);
    return performance.now() - begun;
  }

  directory(vm) {
    return join(this.state, 'vms', vm);
  }

  /** Removes every VM, and the folder. */
  dispose() {
    spawnSync(process.execPath, [program, 'down', '--destroy'], { ...this.options, stdio: 'ignore' });
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A project of that many VMs on the Noop backend. */
export function noopProject(folder, count) {
  const vm = (_, i) =>
    `vm "vm-${i}" {\n  image "disk.raw"\n  memory 512\n  cloud-init\n  ssh\n  provision "shell" { inline "true" }\n}\n`;
  const vmfile = Array.from({ length: count }, vm).join('');
  const project = new Project(folder, { vmfile, variables: { VMCTL_BACKEND: 'noop' } });
  writeFileSync(join(folder, 'disk.raw'), Buffer.alloc(1024 * 1024));
  return project;
}

/** A project of small real guests; `vms` has the lines of each one's block besides the usual. */
export function pocketProject(folder, image, vms) {
  const blocks = Object.entries(vms).map(([name, lines]) => pocketBlock(name, { image, lines }));
  return new Project(folder, { vmfile: blocks.join('') });
}

export function pocketBlock(name, { image, lines }) {
  return `vm "${name}" {\n  image "${image}"\n  memory 256\n  cloud-init\n  ssh\n${lines}\n}\n`;
}
