import { mkdir, mkdtemp, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VmctlError } from '../../src/errors.js';
import type { StageReporter } from '../../src/model/event.js';
import type { FileStep, ProvisionStep, ShellStep } from '../../src/model/spec.js';
import { type ProvisionOptions, runSteps } from '../../src/provision/provisioner.js';
import type { SshConnection } from '../../src/ssh/client.js';
import { runCommand } from '../../src/util/exec.js';
import { waitFor } from '../../src/util/wait.js';
import { calm, connectTo, newKeys, targetOf } from '../ssh/guests.js';
import { SshServer } from '../support/ssh-server.js';

let server: SshServer;
let connection: SshConnection;
let directory: string;
let logFile: string;
let statuses: string[];
let lines: [string, string | undefined][];
let progress: [number, number | null][];

const reporter: StageReporter = {
  status: (text) => statuses.push(text),
  log: (line, stream) => lines.push([line, stream]),
  progress: (bytes, total) => progress.push([bytes, total]),
};

beforeEach(async () => {
  [statuses, lines, progress] = [[], [], []];
  const keys = newKeys();
  server = await SshServer.start({ hostKey: keys.host.privateKey, authorizedKeys: [keys.user.publicKey] });
  connection = await connectTo({ target: targetOf(server.endpoint, 'vm', keys) });
  directory = await mkdtemp(join(tmpdir(), 'vmctl-provision-test-'));
  logFile = join(directory, 'provision.log');
});

afterEach(async () => {
  await connection.close();
  await server[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

/** A clock that is half a second later each time. */
function steppingClock(): () => number {
  let now = Date.UTC(2026, 0, 1);
  return () => {
    now += 500;
    return now;
  };
}

async function run(steps: readonly ProvisionStep[], changes: Partial<ProvisionOptions> = {}): Promise<number> {
  const memory = { history: [], remember: async () => {} };
  const counts = await runSteps(connection, steps, {
    name: 'web',
    logFile,
    reporter,
    signal: calm,
    ...memory,
    ...changes,
  });
  return counts.run;
}

async function failure(steps: readonly ProvisionStep[], changes: Partial<ProvisionOptions> = {}): Promise<VmctlError> {
  const error: unknown = await run(steps, changes).then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof VmctlError)) throw new Error(`not an expected failure: ${String(error)}`);
  return error;
}

function inline(text: string, changes: Partial<ShellStep> = {}): ShellStep {
  return {
    kind: 'shell',
    command: { kind: 'inline', text },
    environment: {},
    run: 'always',
    timeoutSeconds: null,
    ...changes,
  };
}

async function script(name: string, text: string, changes: Partial<ShellStep> = {}): Promise<ShellStep> {
  const path = join(directory, name);
  await writeFile(path, text, { mode: 0o644 });
  return {
    kind: 'shell',
    command: { kind: 'script', path },
    environment: {},
    run: 'always',
    timeoutSeconds: null,
    ...changes,
  };
}

function file(source: string, destination: string): FileStep {
  return { kind: 'file', source, destination, run: 'always', timeoutSeconds: null };
}

function inGuest(path: string): Promise<string> {
  return readFile(join(server.root, path), 'utf8');
}

/** The log without its times, which are checked elsewhere. */
async function logged(): Promise<readonly string[]> {
  const text = await readFile(logFile, 'utf8');
  return text
    .trimEnd()
    .split('\n')
    .map((line) => line.replace(/^\S+ /, '').replace(/\d+\.\d s$/, 'N s'));
}

describe('a shell step', () => {
  it('is executed as it stands by the login shell', async () => {
    expect(await run([inline('echo one\necho two >&2\n\n  cat <<END\n  three $HOME\nEND\nfalse\necho last')])).toBe(1);
    expect(server.commands).toEqual(['echo one\necho two >&2\n\n  cat <<END\n  three $HOME\nEND\nfalse\necho last']);
    expect(lines.filter(([, stream]) => stream === 'stdout').map(([line]) => line)).toEqual([
      'one',
      `  three ${server.root}`,
      'last',
    ]);
    expect(lines).toContainEqual(['two', 'stderr']);
  });

  it('tells its output while it runs', async () => {
    const running = run([inline('echo begun; while [ ! -e go ]; do sleep 0.02; done; echo over')]);
    const told = await waitFor(async () => (lines.length > 0 ? lines[0] : null) ?? null, { timeoutMs: 10_000 });
    expect(told).toEqual(['begun', 'stdout']);
    await writeFile(join(server.root, 'go'), '');
    await running;
    expect(lines.at(-1)).toEqual(['over', 'stdout']);
  });

  it('has the variables that are for every step, and its own before them', async () => {
    const variables = { VMCTL_LAN_ADDRESS: '10.77.0.11', VMCTL_PEER_B: '10.77.0.12' };
    const step = inline('echo "$VMCTL_LAN_ADDRESS $VMCTL_PEER_B"', { environment: { VMCTL_PEER_B: 'mine' } });
    await run([step], { variables });
    expect(lines).toContainEqual(['10.77.0.11 mine', 'stdout']);
  });

  it('has the environment that is declared, and its values are in no log', async () => {
    const environment = { TOKEN: "s3cret' $(id)", OTHER: 'two' };
    await run([inline('printf %s "$TOKEN" > token; echo "$OTHER"', { environment })]);
    expect(await inGuest('token')).toBe("s3cret' $(id)");
    expect(await readFile(logFile, 'utf8')).not.toContain('s3cret');
    expect(JSON.stringify([statuses, lines])).not.toContain('s3cret');
  });

  it('knows with run="each" which VM it is in, and only then', async () => {
    const text = 'echo "$VMCTL_NAME $VMCTL_INDEX"';
    const own = { run: 'each', environment: { VMCTL_INDEX: 'mine' } } as const;
    const steps = [inline(text), inline(text, { run: 'each' }), inline(text, own)];
    await run(steps, { name: 'worker-3', index: 3 });
    expect(lines).toEqual([' ', 'worker-3 3', 'worker-3 mine'].map((line) => [line, 'stdout']));
  });

  it('may be longer than a command line', async () => {
    const text = Array.from({ length: 2_000 }, (_, index) => `total=$((total + ${index}))`).join('\n');
    await run([inline(`total=0\n${text}\necho "$total $EXTRA" > total`, { environment: { EXTRA: 'more' } })]);
    expect(await inGuest('total')).toBe('1999000 more\n');
    expect((await stat(join(server.root, 'tmp/vmctl-provision-1.sh.long'))).mode & 0o777).toBe(0o600);
  });

  it('fails with its exit code, and nothing after it runs', async () => {
    const error = await failure([inline('true'), inline('echo trying\necho oops >&2\nexit 7'), inline('touch later')]);
    expect(error).toMatchObject({
      code: 'PROVISION_FAILED',
      message: 'VM "web": provision step 2 of 3 (shell echo trying) failed with exit code 7',
      hint: 'All of its output: vmctl log web --provision; to look around in the guest: vmctl ssh web',
      fields: { vm: 'web', step: 2, title: 'shell echo trying' },
    });
    expect(error.details?.split('\n').toSorted()).toEqual(['oops', 'trying']);
    expect(server.commands).toHaveLength(2);
  });

  it('shows its last twenty lines when it fails', async () => {
    const error = await failure([inline('i=1; while [ $i -le 50 ]; do echo $i; i=$((i+1)); done; false')]);
    expect(error.details?.split('\n')).toEqual(Array.from({ length: 20 }, (_, index) => String(index + 31)));
  });

  it('fails with the signal that ended it', async () => {
    expect(await failure([inline('kill -KILL $$')])).toMatchObject({
      code: 'PROVISION_FAILED',
      message: 'VM "web": provision step 1 of 1 (shell kill -KILL $$) ended by SIGKILL',
      details: null,
    });
  });

  it('fails when it takes too long, and is ended', async () => {
    const error = await failure([inline('echo begun; sleep 600', { timeoutSeconds: 5 })]);
    expect(error).toMatchObject({
      code: 'TIMEOUT',
      message: 'VM "web": provision step 1 of 1 (shell echo begun; sleep 600) did not finish within 5 s',
      details: 'begun',
    });
    await waitFor(async () => (server.running === 0 ? true : null), { timeoutMs: 10_000 });
    expect(server.running).toBe(0);
  });
});

describe('a script step', () => {
  it('is uploaded under the number of the step, for the user alone, and stays there', async () => {
    await run([inline('true'), await script('setup.sh', '#!/bin/sh\necho "$0" > name\n')]);
    expect(await inGuest('name')).toMatch(/\/tmp\/vmctl-provision-2\.sh\n$/);
    expect((await stat(join(server.root, 'tmp/vmctl-provision-2.sh'))).mode & 0o777).toBe(0o700);
    expect(server.commands.at(-1)).toBe('/tmp/vmctl-provision-2.sh');
  });

  it('is executed by the interpreter that it names', async () => {
    await run([await script('setup', '#!/usr/bin/env -S cat\nread out\n')]);
    expect(lines.map(([line]) => line)).toEqual(['#!/usr/bin/env -S cat', 'read out']);
  });

  it('is executed by the shell when it names none', async () => {
    await run([await script('setup', 'echo "plain $((1 + 1)) $GREETING"\n', { environment: { GREETING: 'hi' } })]);
    expect(lines).toEqual([['plain 2 hi', 'stdout']]);
  });

  it('says what may be wrong when it cannot be executed', async () => {
    const error = await failure([await script('windows.sh', '#!/bin/sh\r\necho hi\r\n')]);
    expect(error).toMatchObject({
      code: 'PROVISION_FAILED',
      message: 'VM "web": provision step 1 of 1 (shell windows.sh) failed with exit code 127',
      hint: expect.stringMatching(
        /^The script's #! line may name an interpreter .* carriage return\. All of its output/,
      ),
    });
  });

  it('fails when its file has gone', async () => {
    const step = await script('gone.sh', 'true');
    await rm(join(directory, 'gone.sh'));
    expect(await failure([step])).toMatchObject({
      code: 'FILE_NOT_FOUND',
      message: `VM "web": provision step 1 of 1 (shell gone.sh): cannot upload ${join(directory, 'gone.sh')}: it does not exist`,
    });
  });
});

describe('a file step', () => {
  it('copies the file with its mode, and tells how far it is', async () => {
    const source = join(directory, 'site.conf');
    await writeFile(source, 'server {}', { mode: 0o640 });
    expect(await run([file(source, 'site.conf')])).toBe(1);
    expect(await inGuest('site.conf')).toBe('server {}');
    expect((await stat(join(server.root, 'site.conf'))).mode & 0o777).toBe(0o640);
    expect(progress.at(-1)).toEqual([9, 9]);
    expect(statuses).toEqual(['step 1/1: file site.conf to site.conf']);
  });

  it('copies a folder whole, and leaves alone what else is there', async () => {
    const source = join(directory, 'site');
    await mkdir(join(source, 'css'), { recursive: true });
    await writeFile(join(source, 'css/main.css'), 'body {}', { mode: 0o640 });
    await symlink('css/main.css', join(source, 'link'));
    const steps = [inline('mkdir site; echo mine > site/own'), file(source, '~/site/')];
    await run(steps);
    expect(await inGuest('site/css/main.css')).toBe('body {}');
    expect((await stat(join(server.root, 'site/css/main.css'))).mode & 0o777).toBe(0o640);
    expect(await readlink(join(server.root, 'site/link'))).toBe('css/main.css');
    expect(await inGuest('site/own')).toBe('mine\n');
    expect((await logged()).at(-1)).toBe('2/2 end   uploaded 1 file and 1 link in 2 folders, N s');
    await run(steps.slice(1));
  });

  it('says what it leaves out of a folder', async () => {
    const source = join(directory, 'site');
    await mkdir(source);
    await runCommand('mkfifo', [join(source, 'pipe')]);
    await run([file(source, 'site')]);
    expect(lines).toEqual([[`${join(source, 'pipe')} is left out: it is neither a file nor a folder`, 'note']]);
  });

  it('knows the home directory', async () => {
    await writeFile(join(directory, 'a'), 'a');
    await run([file(join(directory, 'a'), '~/at-home')]);
    expect(await inGuest('at-home')).toBe('a');
  });

  it('says why the guest refuses it', async () => {
    await writeFile(join(directory, 'a'), 'a');
    expect(await failure([file(join(directory, 'a'), '/no/such/a')])).toMatchObject({
      code: 'PROVISION_FAILED',
      message: expect.stringMatching(
        /^VM "web": provision step 1 of 1 \(file a to \/no\/such\/a\): cannot upload \S+ to \/no\/such\/a: No such file .*$/,
      ),
      hint: 'Create /no/such first.',
      fields: { vm: 'web', step: 1 },
    });
  });
});

describe('the steps', () => {
  it('are none: nothing is done, and nothing is counted', async () => {
    expect(await run([])).toBe(0);
    expect(server.commands).toEqual([]);
  });

  it('are logged with times, results and output, after what was logged before', async () => {
    await writeFile(logFile, 'before\n');
    await writeFile(join(directory, 'a'), 'a');
    const steps = [inline('echo out'), file(join(directory, 'a'), 'a'), inline('echo err >&2; exit 4')];
    await failure(steps, { clock: steppingClock() });
    expect(await readFile(logFile, 'utf8')).toBe(`before
2026-01-01T00:00:00.500Z 1/3 start shell echo out
2026-01-01T00:00:01.500Z 1/3 out   out
2026-01-01T00:00:02.500Z 1/3 end   exit code 0, 1.0 s
2026-01-01T00:00:03.000Z 2/3 start file a to a
2026-01-01T00:00:04.500Z 2/3 end   uploaded, 0.5 s
2026-01-01T00:00:05.000Z 3/3 start shell echo err >&2; exit 4
2026-01-01T00:00:06.000Z 3/3 err   err
2026-01-01T00:00:07.000Z 3/3 end   exit code 4, 1.0 s
`);
  });

  it('keep the log to its owner', async () => {
    await run([inline('true')]);
    expect((await stat(logFile)).mode & 0o777).toBe(0o600);
  });

  it('log a great deal of output without losing any of it', async () => {
    await run([inline('i=0; while [ $i -lt 20000 ]; do echo "line $i"; i=$((i+1)); done')]);
    const told = (await logged()).filter((line) => line.includes(' out '));
    expect(told).toHaveLength(20_000);
    expect(told.at(-1)).toBe('1/1 out   line 19999');
    expect(lines).toHaveLength(20_000);
  });

  it('are interrupted when cancelled, and the log says so', async () => {
    const controller = new AbortController();
    const failing = failure([inline('echo begun; sleep 600'), inline('touch later')], { signal: controller.signal });
    await waitFor(async () => (lines.length > 0 ? true : null), { timeoutMs: 10_000 });
    controller.abort();
    expect(await failing).toMatchObject({ code: 'ABORTED' });
    expect(await logged()).toEqual([
      '1/2 start shell echo begun; sleep 600',
      '1/2 out   begun',
      '1/2 end   interrupted, N s',
    ]);
    expect(server.commands).toHaveLength(1);
  });

  it('do not begin when cancelled before', async () => {
    expect(await failure([inline('true')], { signal: AbortSignal.abort() })).toMatchObject({ code: 'ABORTED' });
    expect(server.commands).toEqual([]);
  });

  it('end with the connection when the guest goes away', async () => {
    const failing = failure([inline('true'), inline('echo rebooting; sleep 600')]);
    await waitFor(async () => (lines.length > 0 ? true : null), { timeoutMs: 10_000 });
    server.drop();
    expect(await failing).toMatchObject({
      code: 'SSH_TRANSPORT',
      message: expect.stringMatching(
        /^VM "web": provision step 2 of 2 \(shell echo rebooting; sleep 600\): the SSH connection to \S+ broke off while a command ran/,
      ),
      hint: 'The guest may have rebooted or stopped: vmctl log web --console',
      details: 'rebooting',
      fields: { vm: 'web', step: 2 },
    });
    expect((await logged()).at(-1)).toMatch(/^2\/2 end {3}the SSH connection to \S+ broke off/);
  });

  it('do not begin when the log cannot be opened', async () => {
    const missing = join(directory, 'no', 'provision.log');
    expect(await failure([inline('true')], { logFile: missing })).toMatchObject({
      code: 'STATE_DIRECTORY',
      message: expect.stringMatching(/^cannot write the provision log \S+: ENOENT/),
    });
    expect(server.commands).toEqual([]);
  });

  it('fail when the log cannot be written, and say so', async () => {
    const full = join(directory, 'full.log');
    await symlink('/dev/full', full);
    expect(await failure([inline('true'), inline('touch later')], { logFile: full })).toMatchObject({
      code: 'STATE_DIRECTORY',
      message: `cannot write the provision log ${full}: ENOSPC: no space left on device, write`,
      hint: 'Check the free space and the permissions there.',
    });
    expect(server.commands).toHaveLength(1);
    expect((await failure([inline('exit 3')], { logFile: full })).message).toMatch(
      /^VM "web": provision step 1 of 1 \(shell exit 3\) failed with exit code 3 \(and cannot write the provision log/,
    );
  });
});
