import { Buffer } from 'node:buffer';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { VmctlError } from '../../../src/errors.js';
import { type CredentialOptions, type Credentials, findCredentials } from '../../../src/image/oci/credentials.js';
import type { CommandRunner } from '../../../src/util/exec.js';
import { failure } from '../../support/failure.js';

let home: string;
let config: string;

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'vmctl-home-'));
  config = join(home, '.docker', 'config.json');
  await mkdir(join(home, '.docker'));
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(home, { recursive: true, force: true });
});

const noProgram: CommandRunner = (program) => Promise.reject(new Error(`${program} was run`));

async function found(registry: string, more: Partial<CredentialOptions> = {}): Promise<Credentials | null> {
  const signal = new AbortController().signal;
  return findCredentials({ registry }, { environment: {}, home, signal, run: noProgram, ...more });
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');
const write = (document: unknown) => writeFile(config, JSON.stringify(document));

/** A helper that answers, and remembers what it was asked. */
function helper(answer: string | VmctlError) {
  const asked: string[] = [];
  const run: CommandRunner = (program, arguments_, options) => {
    asked.push(`${[program, ...arguments_].join(' ')} < ${options?.input}`);
    return typeof answer === 'string' ? Promise.resolve({ stdout: answer, stderr: '' }) : Promise.reject(answer);
  };
  return { asked, run };
}

describe('docker’s config.json', () => {
  test('need not be there, and may hold nothing', async () => {
    expect(await found('r.example')).toBeNull();
    await writeFile(config, '');
    expect(await found('r.example')).toBeNull();
    await write({ auths: null, credsStore: null });
    expect(await found('r.example')).toBeNull();
    await write({ auths: { 'r.example': {} } });
    expect(await found('r.example')).toBeNull();
  });

  test.each(['r.example:5000', 'https://r.example:5000', 'http://r.example:5000/v1/', 'R.example:5000'])(
    'knows a registry as %s',
    async (key) => {
      await write({ auths: { other: { auth: base64('x:y') }, [key]: { auth: base64('me:pass:word') } } });
      const expected = { kind: 'password', username: 'me', password: 'pass:word', from: config };
      expect(await found('r.example:5000')).toEqual(expected);
      expect(await found('r.example')).toBeNull();
      expect(await found('r.example:5000.evil.example')).toBeNull();
    },
  );

  test('knows Docker Hub by the name that it had first', async () => {
    await write({ auths: { 'https://index.docker.io/v1/': { auth: base64('me:p\0\0') } } });
    expect(await found('docker.io')).toMatchObject({ username: 'me', password: 'p' });
  });

  test('may hold a name and a password as they are, or an identity token', async () => {
    await write({
      auths: {
        'a.example': { username: 'me', password: 'p' },
        'b.example': { auth: base64('00000000-0000-0000-0000-000000000000:'), identitytoken: 'refresh' },
      },
    });
    expect(await found('a.example')).toMatchObject({ kind: 'password', username: 'me', password: 'p' });
    expect(await found('b.example')).toEqual({ kind: 'refresh-token', token: 'refresh', from: config });
  });

  test('is where DOCKER_CONFIG says', async () => {
    const directory = join(home, 'elsewhere');
    await mkdir(directory);
    await writeFile(join(directory, 'config.json'), JSON.stringify({ auths: { r: { auth: base64('me:p') } } }));
    const environment = { DOCKER_CONFIG: directory };
    expect(await found('r', { environment })).toMatchObject({ from: join(directory, 'config.json') });
  });

  test.each([
    ['{"auths":{"r":{"auth":"SECRET"', 'is not JSON'],
    ['{"auths":{"r":{"auth":["SECRET"]}}}', 'has something unexpected at auths.r.auth'],
    ['{"auths":"SECRET"}', 'has something unexpected at auths'],
    ['{"auths":{"r":{"auth":"U0VDUkVU"}}}', 'has a damaged "auth" for r'],
    ['{"credsStore":"../SECRET/x"}', 'names "../SECRET/x" as a credential helper'],
  ])('that is damaged (%s) is named, and what it holds is not', async (text, problem) => {
    await writeFile(config, text);
    const error = await failure(found('r'));
    expect(error).toMatchObject({ code: 'CONFIG_INVALID', message: `docker's ${config} ${problem}` });
    expect(error.hint).not.toBeNull();
    const shown = `${JSON.stringify(error)}${String(error.cause)}`;
    expect(problem.includes('SECRET') || !/SECRET|U0VDUkVU/.test(shown)).toBe(true);
  });

  test('that cannot be read is named', async () => {
    await mkdir(config);
    expect((await failure(found('r'))).message).toBe(`docker's ${config} cannot be read (EISDIR)`);
  });
});

describe('a credential helper', () => {
  test('of the registry is asked before that of all, with the name on stdin', async () => {
    await write({
      credHelpers: { 'r.example': 'own' },
      credsStore: 'all',
      auths: { 'r.example': { auth: base64('x:y') } },
    });
    const { asked, run } = helper('{"ServerURL":"r.example","Username":"me","Secret":"p"}');
    const own = { kind: 'password', username: 'me', password: 'p', from: 'docker-credential-own' };
    expect(await found('r.example', { run })).toEqual(own);
    expect(await found('docker.io', { run })).toMatchObject({ from: 'docker-credential-all' });
    expect(asked).toEqual([
      'docker-credential-own get < r.example',
      'docker-credential-all get < https://index.docker.io/v1/',
    ]);
  });

  test('may give an identity token', async () => {
    await write({ credsStore: 'all' });
    const { run } = helper('{"Username":"<token>","Secret":"refresh"}');
    const token = { kind: 'refresh-token', token: 'refresh', from: 'docker-credential-all' };
    expect(await found('r', { run })).toEqual(token);
  });

  test('that knows nothing leaves it to the file', async () => {
    await write({ credsStore: 'all', auths: { 'r.example': { auth: base64('me:p') } } });
    const words = 'docker-credential-all failed with exit code 1: credentials not found in native keychain';
    const { run } = helper(new VmctlError('COMMAND_FAILED', words));
    expect(await found('r.example', { run })).toMatchObject({ username: 'me' });
    expect(await found('other.example', { run })).toBeNull();
  });

  test.each([
    ['that fails', new VmctlError('COMMAND_FAILED', 'docker-credential-all failed with exit code 1: no bus')],
    [
      'that is not installed',
      new VmctlError('HOST_UNSUPPORTED', 'docker-credential-all is not installed or not in PATH'),
    ],
  ])('%s is named, with the file that names it', async (_what, problem) => {
    await write({ credsStore: 'all' });
    expect(await failure(found('r.example', { run: helper(problem).run }))).toMatchObject({
      code: problem.code,
      message: problem.message,
      hint: `${config} names it for r.example: run "echo r.example | docker-credential-all get", or take it out of that file.`,
    });
  });

  test.each([
    [
      'fails with',
      new VmctlError('COMMAND_FAILED', 'failed: {"Username":"me","Secret":"SECRET"}', { details: 'SECRET' }),
    ],
    ['answers with no JSON but', 'SECRET'],
    ['answers with half of', '{"Secret":"SECRET"}'],
  ])('that %s a password does not make it known', async (_how, answer) => {
    await write({ credsStore: 'all' });
    const error = await failure(found('r.example', { run: helper(answer).run }));
    expect(error.message).toContain('docker-credential-all');
    expect(`${JSON.stringify(error)}${String(error.cause)}`).not.toContain('SECRET');
  });

  test('that is interrupted is no failure of its own', async () => {
    await write({ credsStore: 'all' });
    const { run } = helper(new VmctlError('ABORTED', 'interrupted'));
    expect((await failure(found('r', { run }))).code).toBe('ABORTED');
  });

  test('is a program that is run', async () => {
    const program = join(home, 'docker-credential-fake');
    const known = `echo '{"ServerURL":"r.example","Username":"me","Secret":"p"}'`;
    const unknown = 'echo credentials not found in native keychain; exit 1';
    await writeFile(
      program,
      `#!/bin/sh\nread -r server\n[ "$1 $server" = "get r.example" ] || { ${unknown}; }\n${known}\n`,
    );
    await chmod(program, 0o755);
    await write({ credsStore: 'fake' });
    vi.stubEnv('PATH', `${home}${delimiter}${process.env['PATH']}`);
    const signal = new AbortController().signal;
    const options = { environment: {}, home, signal };
    expect(await findCredentials({ registry: 'r.example' }, options)).toMatchObject({ username: 'me', password: 'p' });
    expect(await findCredentials({ registry: 'other.example' }, options)).toBeNull();
    await rm(program);
    const missing = await failure(findCredentials({ registry: 'r.example' }, options));
    expect(missing).toMatchObject({
      code: 'HOST_UNSUPPORTED',
      message: expect.stringContaining('docker-credential-fake'),
    });
  });
});

describe('GITHUB_TOKEN', () => {
  const environment = { GITHUB_TOKEN: 'ghp_1' };

  test('is for ghcr.io alone', async () => {
    expect(await found('ghcr.io', { environment })).toMatchObject({
      kind: 'password',
      password: 'ghp_1',
      from: 'GITHUB_TOKEN',
    });
    expect(await found('ghcr.io.example', { environment })).toBeNull();
    expect(await found('docker.io', { environment })).toBeNull();
    expect(await found('ghcr.io', { environment: { GITHUB_TOKEN: '' } })).toBeNull();
  });

  test('is used only where docker knows nothing', async () => {
    await write({ auths: { 'ghcr.io': { auth: base64('me:p') } } });
    expect(await found('ghcr.io', { environment })).toMatchObject({ username: 'me' });
  });
});
