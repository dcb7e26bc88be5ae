import { fileURLToPath, pathToFileURL } from 'node:url';
import { createRequire } from 'node:module';
import { expect, test } from 'vitest';
import { finish } from '../support/machine-room.js';
import { Programs } from '../support/programs.js';

const LISTR = pathToFileURL(createRequire(fileURLToPath(import.meta.url)).resolve('listr2')).href;

/** Somebody else's list, with a task of his between ours. */
const PROGRAM = `
  import { Listr } from ${JSON.stringify(LISTR)};
  import { tasks } from 'vmctl';
  const [renderer, signal] = [process.env.RENDERER, process.env.CANCEL ? AbortSignal.abort() : undefined];
  const list = new Listr([
    tasks.up({ backend: 'noop', signal }),
    { title: 'tests', task: async ({ vms }) => { console.error('SEEN', vms.names.join(), (await vms.web.status()).state); } },
    tasks.down(),
  ], { renderer, fallbackRenderer: renderer, registerSignalListeners: false });
  await list.run().then(({ vms }) => console.error('END', vms), (error) => console.error('FAILED', error.code, error.message));`;

test.each(['default', 'simple', 'verbose', 'silent', 'test'])(
  'the tasks stand in a list of somebody else, with the %s renderer',
  async (renderer) => {
    await using programs = await Programs.create();
    await programs.write('VMFile.kdl', 'vm "web" { image "disk.raw" }\nvm "db" { image "disk.raw" }');
    const { exitCode, stdout, stderr } = await finish(await programs.start(PROGRAM, { RENDERER: renderer }));
    expect(`${stdout}${stderr}`).toContain('SEEN web,db running');
    expect(`${stdout}${stderr}`).toContain('END undefined');
    expect(exitCode).toBe(0);
    // The one that is silent tells nothing, and all others the name of the task.
    expect(stdout.includes('virtual machines')).toBe(renderer !== 'silent');
    expect(await programs.areGone()).toBe(true);
  },
);

test('a task that is cancelled fails as up does, and the list goes no further', async () => {
  await using programs = await Programs.create();
  await programs.write('VMFile.kdl', 'vm "web" { image "disk.raw" }');
  const { stderr } = await finish(await programs.start(PROGRAM, { RENDERER: 'silent', CANCEL: '1' }));
  expect(stderr).toContain('FAILED ABORTED interrupted');
  expect(stderr).not.toContain('SEEN');
  expect(await programs.runs()).toEqual([]);
});
