/** Debian's docker-registry on a loopback port that the kernel chooses, in a folder of its own. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export interface DockerRegistry extends AsyncDisposable {
  /** `127.0.0.1:12345` */
  readonly host: string;
  /** Uploads to `a/disk` that have begun and not ended: of one that has ended, folders may remain, and no files. */
  openUploads(): Promise<readonly string[]>;
}

/** What `htpasswd -nbB -C 4` makes of `USER`. */
const HTPASSWD = 'me:$2y$04$ZbBv/XGD6nKxZn2Tckwefea.n3UVtCXzChMMsnuJ15QFj83ovOX1a';

export async function startDockerRegistry({
  login = false,
  relativeUrls = false,
}: {
  readonly login?: boolean;
  readonly relativeUrls?: boolean;
} = {}): Promise<DockerRegistry> {
  const root = await mkdtemp(join(tmpdir(), 'vmctl-registry-'));
  const storage = join(root, 'storage');
  const config = {
    version: '0.1',
    log: { level: 'info', formatter: 'json', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: storage } },
    http: { addr: '127.0.0.1:0', secret: 'of this test', relativeurls: relativeUrls },
    ...(login ? { auth: { htpasswd: { realm: 'test', path: join(root, 'htpasswd') } } } : {}),
  };
  await writeFile(join(root, 'htpasswd'), `${HTPASSWD}\n`);
  // YAML takes JSON as it is.
  await writeFile(join(root, 'config.yml'), JSON.stringify(config));
  const child = spawn('docker-registry', ['serve', join(root, 'config.yml')], { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = once(child, 'close');
  const [, host] = await Promise.race([listening(child.stderr), ended.then(() => [])]);
  if (host === undefined) throw new Error('docker-registry did not start');
  // What it logs afterwards must not fill the pipe.
  child.stderr.resume();
  return {
    host,
    openUploads: async () => {
      const uploads = join(storage, 'docker/registry/v2/repositories/a/disk/_uploads');
      const files = await readdir(uploads, { recursive: true });
      return files.filter((name) => /\/(?:data|startedat)$/.test(name));
    },
    [Symbol.asyncDispose]: async () => {
      child.kill();
      await ended;
      await rm(root, { recursive: true, force: true });
    },
  };
}

async function listening(output: NodeJS.ReadableStream): Promise<readonly string[]> {
  for await (const line of createInterface({ input: output })) {
    const found = /listening on (127\.0\.0\.1:\d+)/.exec(line);
    if (found !== null) return found;
  }
  return [];
}
