import { execFile } from 'node:child_process';
import { chmod, cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';

const scripts = fileURLToPath(new URL('../../scripts', import.meta.url));

/** A checkout with nothing but the scripts, and a PATH with nothing but these programs. */
async function bareMachine(programs: readonly string[]): Promise<{ root: string; path: string }> {
  const root = await mkdtemp(join(tmpdir(), 'vmctl-bare-'));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  const path = join(root, 'bin');
  await chmod(root, 0o755);
  await mkdir(path);
  for (const name of programs) await writeFile(join(path, name), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
  await symlink(process.execPath, join(path, 'node'));
  await cp(scripts, join(root, 'scripts'), { recursive: true });
  await writeFile(join(root, 'package-lock.json'), '{}');
  await mkdir(join(root, 'node_modules'));
  await writeFile(join(root, 'node_modules', '.package-lock.json'), '{}');
  return { root, path };
}

interface Run {
  readonly exitCode: number | string | null | undefined;
  readonly stderr: string;
}

/** Runs the quickstart as somebody who is not root. */
async function quickstart(machine: { root: string; path: string }): Promise<Run> {
  const script = join(machine.root, 'scripts', 'quickstart.mjs');
  const asNobody = ['--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, script];
  const isRoot = process.getuid?.() === 0;
  return new Promise((resolve) => {
    const child = execFile(isRoot ? '/usr/bin/setpriv' : process.execPath, isRoot ? asNobody : [script], {
      env: { PATH: machine.path },
    });
    let stderr = '';
    child.stderr?.on('data', (text: string) => (stderr += text));
    child.once('close', (exitCode) => resolve({ exitCode, stderr }));
    child.stdin?.end();
  });
}

test.each([
  [
    'apt-get',
    'sudo apt-get install -y -qq --no-install-recommends qemu-system-x86 ipxe-qemu qemu-utils openssh-client',
  ],
  ['dnf', 'sudo dnf install -y qemu-system-x86-core qemu-img openssh-clients'],
  ['pacman', 'sudo pacman -S --needed --noconfirm qemu-base qemu-img openssh'],
])(
  'without QEMU and without a way to become root, quickstart prints the exact %s command and exits 4',
  async (manager, command) => {
    const machine = await bareMachine([manager]);
    const { exitCode, stderr } = await quickstart(machine);
    expect(stderr).toContain('qemu-system-x86_64, qemu-img, ssh not found. Install with:');
    expect(stderr).toContain(command);
    expect(exitCode).toBe(4);
  },
);

test('without any package manager, quickstart names what is missing and exits 4', async () => {
  const { exitCode, stderr } = await quickstart(await bareMachine([]));
  expect(stderr).toContain('Not installed: qemu-system-x86_64, qemu-img, ssh.');
  expect(exitCode).toBe(4);
});
