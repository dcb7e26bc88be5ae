/** What real shells make of the completion scripts. */
import { execFile } from 'node:child_process';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { type TemporaryDirectory, temporaryDirectory } from '../support/fixtures.js';

const PROGRAM = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));

/** A project folder with two VMs, and a `vmctl` in its `bin`. */
async function project(): Promise<TemporaryDirectory> {
  const directory = await temporaryDirectory();
  const vmctl = join(directory.path, 'bin', 'vmctl');
  await mkdir(join(directory.path, 'bin'));
  await writeFile(vmctl, `#!/bin/sh\nexec '${process.execPath}' '${PROGRAM}' "$@"\n`);
  await chmod(vmctl, 0o755);
  await writeFile(join(directory.path, 'VMFile.kdl'), 'vm "web" { image "x" }\nvm "db" { image "x" }\n');
  return directory;
}

async function inShell({ path }: TemporaryDirectory, shell: string, script: string): Promise<readonly string[]> {
  const { stdout } = await promisify(execFile)(shell, ['-c', script], {
    cwd: path,
    env: {
      PATH: `${join(path, 'bin')}:${process.env['PATH']}`,
      HOME: path,
      XDG_DATA_HOME: path,
      XDG_CONFIG_HOME: path,
      TERM: 'dumb',
    },
  });
  return stdout.split('\n').filter((line) => line !== '');
}

const LINES = [
  ['vmctl susp', ['suspend']],
  ['vmctl up ', ['web', 'db']],
  ['vmctl up web d', ['db']],
  ['vmctl validate --file VM', ['VMFile.kdl']],
  ['vmctl image pul', ['pull']],
] as const;

test.each(LINES)('bash completes "%s"', async (line, expected) => {
  await using directory = await project();
  const script = `source <(vmctl completion bash); compopt() { :; }; COMP_LINE='${line}'; COMP_POINT=${line.length}
    "$(complete -p vmctl | sed 's/.*-F \\([^ ]*\\).*/\\1/')"; printf '%s\\n' "\${COMPREPLY[@]}"`;
  expect([...(await inShell(directory, 'bash', script))].toSorted()).toEqual([...expected].toSorted());
});

test.each(LINES)('fish completes "%s"', async (line, expected) => {
  await using directory = await project();
  const lines = await inShell(directory, 'fish', `vmctl completion fish | source; complete -C '${line}'`);
  expect(lines.map((candidate) => candidate.split('\t')[0] ?? '').toSorted()).toEqual([...expected].toSorted());
});
