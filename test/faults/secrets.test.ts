/**
 * A run with a password in every place that can have one, and then a search for them: in all that commands have printed,
 * in every log, and in every file that anybody else could read.
 */
import { readFile, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startHttpServer } from '../support/http-server.js';
import { OciRegistry, USER } from '../support/oci-registry.js';
import { Rig } from '../support/rig.js';

const SECRETS = [
  'hunter-image',
  'hunter-query',
  'hunter-list',
  'hunter-proxy',
  'hunter-step',
  'hunter-registry',
  USER.password,
];

/** Files that tell what happened, whoever may read them. */
const LOGS = /\.log$|record\.json$|lease\.json$|host\.json$/;

interface Found {
  readonly where: string;
  readonly what: string;
}

function secretsIn(where: string, text: string): readonly Found[] {
  const spellings = SECRETS.flatMap((secret) => [
    secret,
    encodeURIComponent(secret),
    Buffer.from(`me:${secret}`).toString('base64'),
  ]);
  const keys = text.includes('PRIVATE KEY') ? ['a private key'] : [];
  const around = (spelling: string) => {
    const at = text.indexOf(spelling);
    return at < 0 ? [] : [text.slice(Math.max(0, at - 120), at + spelling.length)];
  };
  return [...spellings.flatMap(around), ...keys].map((what) => ({ where, what }));
}

/** Secrets in logs, and files and folders that others may read although they are no images. */
async function search(root: string): Promise<readonly Found[]> {
  const found: Found[] = [];
  for (const name of await readdir(root, { recursive: true })) {
    const path = join(root, name);
    const facts = await stat(path);
    const isOpen = (facts.mode & 0o077) !== 0;
    const isImage = name.startsWith('images/') && !name.endsWith('.json');
    if (isOpen && !isImage)
      found.push({ where: name, what: `others may read it (${(facts.mode & 0o777).toString(8)})` });
    if (facts.isFile() && (isOpen || LOGS.test(name) || name.startsWith('images/'))) {
      found.push(...secretsIn(name, await readFile(path, 'latin1')));
    }
  }
  return found;
}

test('passwords, tokens and private keys are in nothing that was printed, logged, or can be read by others', {
  timeout: 90_000,
}, async () => {
  await using rig = await Rig.create();
  await using server = await startHttpServer();
  await using registry = await OciRegistry.start({ login: 'token' });
  const disk = Buffer.alloc(1024 * 1024);
  server.serve('/a.raw', { body: disk });
  server.serve('/b.raw', { body: disk });
  server.serve('/SHA256SUMS', { body: 'nothing of use\n' });
  const url = (path: string) => `http://me:hunter-image@${server.host}${path}?token=hunter-query`;
  const step = 'provision "shell" { env TOKEN="hunter-step"; inline "true" }';
  const declare = (image: string) =>
    rig.write('VMFile.kdl', `vm "web" { image-url "${image}"; cloud-init; ssh; ${step} }\n`);
  const variables = {
    VMCTL_DEBUG: '1',
    http_proxy: 'http://me:hunter-proxy@127.0.0.1:9',
    https_proxy: 'http://me:hunter-proxy@127.0.0.1:9',
    no_proxy: '127.0.0.1',
    DOCKER_CONFIG: join(rig.root, 'docker'),
    GITHUB_TOKEN: 'hunter-registry',
  };
  const auth = Buffer.from(`${USER.username}:${USER.password}`).toString('base64');
  await rig.write('../docker/config.json', JSON.stringify({ auths: { [registry.host]: { auth } } }));

  const found: Found[] = [];
  const codes: number[] = [];
  const run = async (...words: readonly string[]): Promise<void> => {
    const { exitCode, stdout, stderr } = await rig.vmctl(words, { variables });
    codes.push(exitCode);
    found.push(...secretsIn(`vmctl ${words.join(' ')}`, stdout + stderr));
  };
  await declare(url('/a.raw'));
  await run('up', '--json');
  const looks = [
    ['list', '--json'],
    ['status', 'web'],
    ['status', 'web', '--json'],
    ['log', 'web', '--provision'],
    ['doctor', '--json'],
    ['ssh-config'],
    ['gc', '--json'],
  ];
  for (const words of looks) await run(...words);
  expect(codes[0]).toBe(0);

  // What is no longer as declared is told with both values.
  await declare(url('/b.raw'));
  await run('up');
  await run('up', '--dry-run');
  await run('up', '--json', '--dry-run');
  await run('reload', '--json');
  await rig.write(
    'VMFile.kdl',
    `vm "web" { image-url "${url('/b.raw')}"; checksum "http://me:hunter-list@${server.host}/SHA256SUMS"; cloud-init; ssh; ${step} }\n`,
  );
  for (const words of [['up', '--json'], ['reload'], ['up', '--dry-run'], ...looks]) await run(...words);

  // Downloads that fail: by the server, by the registry, and by the proxy, which nobody runs.
  for (const image of [url('/missing.raw'), `oci://${registry.host}/team/base:1`]) {
    await run('image', 'inspect', image);
    await declare(image);
    await run('up', '--json');
    await run('reload');
  }
  await run('image', 'pull', 'http://me:hunter-image@images.test/x.raw?token=hunter-query');
  await run('image', 'pull', 'oci://ghcr.io/team/base:1');
  for (const words of [['image', 'list', '--json'], ['image', 'prune'], ...looks]) await run(...words);
  await run('run', '--', 'true');

  expect(found).toEqual([]);
  expect(await search(rig.paths.root)).toEqual([]);
  // It would be found where it is.
  expect(secretsIn('vm.json', await readFile(join(rig.paths.vm('web'), 'vm.json'), 'utf8')).length).toBeGreaterThan(0);
});
