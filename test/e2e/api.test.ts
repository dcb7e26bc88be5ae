/** The API on real guests, in this process. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { upIn } from '../../src/api/up.js';
import type { Outside } from '../../src/api/outside.js';
import { ExecError } from '../../src/api/errors.js';
import { sha256 } from '../support/digest.js';
import { failure } from '../support/failure.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';

async function world(): Promise<{ readonly outside: Outside } & AsyncDisposable> {
  const root = await mkdtemp(join(tmpdir(), 'vmctl-e2e-api-'));
  await mkdir(join(root, 'project'));
  return {
    outside: {
      variables: { ...process.env, XDG_DATA_HOME: join(root, 'data') },
      home: join(root, 'home'),
      cwd: join(root, 'project'),
      command: 'a test',
    },
    [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true, maxRetries: 3 }),
  };
}

test('a program brings a guest up, works in it, and takes it through its states', async () => {
  const image = await guestImage('pocket');
  const before = await sha256(image);
  await using here = await world();
  const { cwd } = here.outside;
  await using vms = await upIn(
    {
      vms: {
        web: {
          image,
          memory: 256,
          network: { kind: 'user', forwards: [8080] },
          provision: [{ inline: 'mkdir www && echo hello > www/index.html; echo made' }],
        },
      },
    },
    here.outside,
  );
  const { web } = vms;

  // Commands: text is for the shell, an array is taken literally, and what went wrong is in the error.
  expect(await web.exec('echo out; echo err >&2')).toMatchObject({ exitCode: 0, stdout: 'out\n', stderr: 'err\n' });
  const words = ['printf', '%s|', 'a b', "it's", '$HOME', '', 'ü'];
  expect((await web.exec(words)).stdout).toBe("a b|it's|$HOME||ü|");
  const asRoot = await web.exec('id -un; pwd; echo "$X"', { user: 'root', cwd: '/tmp', env: { X: 'a "b" $c' } });
  expect(asRoot.stdout).toBe('root\n/tmp\na "b" $c\n');
  expect((await web.exec('cat', { stdin: 'to be read' })).stdout).toBe('to be read');
  const failed = await failure(web.exec('echo words; exit 3'));
  expect(failed).toBeInstanceOf(ExecError);
  expect(failed).toMatchObject({ code: 'EXEC_FAILED', exitCode: 3, stdout: 'words\n', details: 'words' });
  expect(await web.exec('exit 3', { check: false })).toMatchObject({ exitCode: 3 });
  const late = await failure(web.exec('echo begun; sleep 60', { timeout: '5s' }));
  expect(late).toMatchObject({ code: 'TIMEOUT', stdout: 'begun\n' });
  const cancel = new AbortController();
  const cancelled = failure(
    web.exec('echo begun; sleep 60', { signal: cancel.signal, onStdout: () => cancel.abort() }),
  );
  expect(await cancelled).toMatchObject({ code: 'ABORTED', stdout: 'begun\n' });
  const lines: string[] = [];
  for await (const line of web.spawn('for i in 1 2 3; do echo $i; done')) lines.push(line);
  expect(lines).toEqual(['1', '2', '3']);
  // All over one connection: sshd's child for it is the same each time.
  const connections = await Promise.all([1, 2, 3].map(() => web.exec('echo $SSH_CONNECTION')));
  expect(new Set(connections.map(({ stdout }) => stdout)).size).toBe(1);

  // Services: waited for inside, and reached from here.
  const server = web.spawn('cd www && exec httpd -f -p 8080');
  await web.waitFor({ port: 8080 }, { timeout: '20s' });
  await web.waitFor({ http: { port: 8080, path: '/index.html', status: 200 } }, { timeout: '20s' });
  expect(await (await fetch(`http://127.0.0.1:${web.port(8080)}/`)).text()).toBe('hello\n');
  expect(await failure(web.waitFor({ http: { port: 8080, path: '/none' } }, { timeout: 5000 }))).toMatchObject({
    code: 'READY_TIMEOUT',
    message: expect.stringContaining('within 5 s: it was answered with 404'),
  });
  server.kill();
  expect(await failure(server.result)).toMatchObject({ code: 'ABORTED' });
  expect((await failure(web.waitFor({ http: { port: 81 } }, { timeout: 300 }))).code).toBe('READY_TIMEOUT');
  expect((await failure(web.waitFor({ port: 81 }, { timeout: 300 }))).code).toBe('READY_TIMEOUT');
  expect((await failure(web.waitFor({ log: 'never said' }, { timeout: 300 }))).code).toBe('READY_TIMEOUT');
  expect((await failure(web.waitFor({ file: '/none' }, { timeout: 300 }))).code).toBe('READY_TIMEOUT');
  await web.waitFor({ file: '/etc/passwd' });
  await web.waitFor({ shell: 'test "$(id -un)" = vm' });
  await web.exec(['sh', '-c', 'echo "so it was said" > /dev/ttyS0'], { user: 'root' });
  await web.waitFor({ log: /so it was \w+$/ }, { timeout: '10s' });
  await web.exec('mkdir -p /run/cloud-init && echo \'{"v1": {"errors": []}}\' > /run/cloud-init/result.json', {
    user: 'root',
  });
  await web.waitFor({ cloudInit: true });

  // Files, logs, the screen.
  await writeFile(join(cwd, 'there.txt'), 'and back');
  expect(await web.copyTo('there.txt', '/tmp/')).toMatchObject({ files: 1, destination: 'web:/tmp/there.txt' });
  await web.copyFrom('/tmp/there.txt', 'back.txt');
  expect(await readFile(join(cwd, 'back.txt'), 'utf8')).toBe('and back');
  const log: string[] = [];
  for await (const line of web.log('provision')) log.push(line);
  expect(log.join('\n')).toMatch(/1\/1 out +made/);
  const followed: string[] = [];
  const saying = 'until [ -e /tmp/heard ]; do echo "later words" > /dev/ttyS0; sleep 0.3; done';
  await web.exec(`(${saying}) > /dev/null 2>&1 &`, { user: 'root' });
  for await (const line of web.log('console', { follow: true, tail: 0 }))
    if (followed.push(line) && line.endsWith('later words')) break;
  expect(followed.at(-1)).toMatch(/later words$/);
  await web.exec('touch /tmp/heard');
  const png = Buffer.from(await web.screenshot());
  expect(png.subarray(0, 8).toString('latin1')).toBe('\u0089PNG\r\n\u001a\n');
  expect([png.readUInt32BE(16), png.readUInt32BE(20)].every((pixels) => pixels >= 200 && pixels <= 2000)).toBe(true);

  // States.
  const paused = await web.suspend();
  expect((await paused.status()).state).toBe('suspended');
  expect((await (await paused.resume()).exec('echo on again')).stdout).toBe('on again\n');
  await web.exec('echo kept > mark && sync');
  const rebooted = await web.reboot();
  expect((await rebooted.exec('cat mark; cut -d. -f1 /proc/uptime')).stdout).toMatch(/^kept\n\d{1,3}\n$/);
  const stopped = await rebooted.stop();
  expect((await failure(web.exec('true'))).code).toBe('VM_STATE');
  expect((await (await stopped.start()).exec('cat mark')).stdout).toBe('kept\n');
  await web.destroy();
  expect(await sha256(image)).toBe(before);
});

test('screenshot writes a PNG of a running VM, and refuses one that is stopped', async () => {
  await using room = await MachineRoom.open();
  const image = JSON.stringify(await guestImage('pocket'));
  await room.write('VMFile.kdl', `vm "web" { image ${image}; memory 256 }`);
  await room.vmctl('up');
  const taken = await room.vmctl('screenshot', 'web');
  expect(taken).toMatchObject({ exitCode: 0, stdout: '' });
  const png = await readFile(join(room.project, 'web.png'));
  expect(png.subarray(1, 4).toString()).toBe('PNG');
  expect(png.length).toBeGreaterThan(200);
  await room.vmctl('suspend', 'web');
  expect((await room.vmctl('screenshot', 'web', 'paused.png')).exitCode).toBe(0);
  await room.vmctl('stop', 'web', '--timeout', '0');
  const refused = await room.vmctl('screenshot', 'web');
  expect(refused.exitCode).toBe(1);
  expect(refused.stderr).toContain('VM "web" is stopped, and shows nothing');
});
