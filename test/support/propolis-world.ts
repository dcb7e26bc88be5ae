/** An illumos host on which Propolis can run VMs: fakes of its commands, and a program in place of propolis-server. */
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { PropolisOptions } from '../../src/hypervisor/propolis/options.js';
import type { ProcessIdentity } from '../../src/util/process.js';
import { findByCommandLine, isSameProcess, signalProcess } from '../../src/util/process.js';
import { waitFor } from '../../src/util/wait.js';
import { temporaryDirectory } from './fixtures.js';
import { FakeHost, type HostOptions } from './propolis-host.js';
import { type ServerBehaviour, writeBootrom, writeServerProgram } from './propolis-program.js';

export interface PropolisWorld extends AsyncDisposable {
  readonly host: FakeHost;
  /** What a backend is told of this host; where locks are is left to whoever makes it. */
  readonly options: Omit<PropolisOptions, 'locks'> & { readonly binary: string; readonly bootrom: string };
  /** The folder with the programs. */
  readonly folder: string;
  /** How every propolis-server behaves that is started from now on. */
  readonly behave: (behaviour: Omit<ServerBehaviour, 'world'>) => Promise<void>;
  /** The servers that run, of all VMs. */
  servers(): Promise<readonly ProcessIdentity[]>;
}

export async function openPropolisWorld(hostOptions: HostOptions = {}): Promise<PropolisWorld> {
  const tools = await temporaryDirectory('vmctl-propolis-');
  const worldFile = join(tools.path, 'world.json');
  const bootrom = join(tools.path, 'bootrom');
  const binary = await writeServerProgram(tools.path);
  const host = new FakeHost({ ...hostOptions, worldFile, binary });
  const behave = (behaviour: Omit<ServerBehaviour, 'world'>) =>
    writeBootrom(bootrom, { ...behaviour, world: worldFile });
  await behave({});
  const servers = () => findByCommandLine((words) => words.includes(bootrom));
  return {
    host,
    folder: tools.path,
    options: { binary, bootrom, run: host.run, isRoot: true },
    behave,
    servers,
    [Symbol.asyncDispose]: async () => {
      for (const server of await servers()) {
        await signalProcess(server, 'SIGKILL');
        await waitFor(async () => ((await isSameProcess(server)) ? null : true), { timeoutMs: 10_000 });
      }
      await tools[Symbol.asyncDispose]();
    },
  };
}

/**
 * A `pfexec` for PATH. As the real one does (illumos-gate, `usr/src/cmd/pfexec/pfexec.c`), it becomes the command that it
 * is given, so the pid stays; it writes down what that was.
 */
export async function writePfexec(folder: string): Promise<{ readonly commands: () => Promise<readonly string[]> }> {
  const log = join(folder, 'pfexec.log');
  const path = join(folder, 'pfexec');
  await writeFile(log, '');
  await writeFile(path, `#!/bin/sh\necho "$*" >> '${log}'\nexec "$@"\n`);
  await chmod(path, 0o755);
  return { commands: async () => (await readFile(log, 'utf8')).split('\n').slice(0, -1) };
}

/** Speaks to the server of a VM as its guest does. */
export async function actAsGuest(directory: string, act: 'print' | 'power-off', body = ''): Promise<void> {
  const { address }: { address: string } = JSON.parse(await readFile(join(directory, 'runtime.json'), 'utf8'));
  await fetch(`http://${address}/guest/${act}`, { method: 'POST', body });
}
