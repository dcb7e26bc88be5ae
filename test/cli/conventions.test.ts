import { expect, test } from 'vitest';
import { COMMANDS } from '../../src/cli/commands.js';
import { VmctlError } from '../../src/errors.js';
import { Rig } from '../support/rig.js';

test('every command has help with usage, options and two examples', async () => {
  await using rig = await Rig.create();
  for (const [name, { examples }] of Object.entries(COMMANDS)) {
    const { exitCode, stdout, stderr } = await rig.vmctl([name, '--help']);
    expect({ name, exitCode, stderr }).toEqual({ name, exitCode: 0, stderr: '' });
    expect(stdout).toMatch(new RegExp(`^Usage: vmctl ${name}\\b`));
    for (const example of examples) expect(stdout).toContain(example);
    expect((await rig.vmctl(['help', name])).stdout).toBe(stdout);
  }
});

test('the overview lists every command', async () => {
  await using rig = await Rig.create();
  const { exitCode, stdout } = await rig.vmctl(['--help']);
  expect(exitCode).toBe(0);
  for (const [name, { summary }] of Object.entries(COMMANDS)) {
    expect(stdout).toContain(name);
    expect(stdout.replaceAll(/\s+/g, ' ')).toContain(summary);
  }
});

test.each([
  [['upp'], '(Did you mean up?)'],
  [['nope'], "unknown command 'nope'\n(see: vmctl --help)"],
  [['help', 'nope'], "unknown command 'nope'"],
  [['help', 'upp'], '(Did you mean up?)'],
  [['image', 'pull'], '(see: vmctl image pull --help)'],
  [['up', '--fiel', 'x'], '(Did you mean --file?)'],
  [['up', '--parallel', '0'], 'It must be a whole number of 1 or more.'],
  [['up', '--timeout', 'soon'], 'It must be seconds above 0, or a duration'],
  [['up', '--timeout', '30d'], 'It must be seconds above 0, or a duration'],
  [['up', '--timeout', '0'], 'It must be seconds above 0, or a duration'],
  [['reload', '--timeout', '0s'], 'It must be seconds above 0, or a duration'],
  [['exec', 'web', '--timeout', '0', 'true'], 'It must be seconds above 0, or a duration'],
  [['up', '--timeout', '999999999'], 'of a week at most'],
  [['start'], "missing required argument 'name'"],
  [['list', 'extra'], 'too many arguments'],
])('wrong usage %j has exit code 2 and says what is wrong', async (words, expected) => {
  await using rig = await Rig.create();
  const { exitCode, stdout, stderr } = await rig.vmctl(words);
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
  expect(stderr).toContain(expected);
});

test('a VMFile that is not there has exit code 3 and names the place', async () => {
  await using rig = await Rig.create();
  const { exitCode, stderr } = await rig.vmctl(['up']);
  expect(exitCode).toBe(3);
  expect(stderr).toContain(`there is no VMFile.kdl in ${rig.project}`);
});

test('a failure is told whole once, at the end, and on the way in a word', async () => {
  await using rig = await Rig.create({
    before: async (operation) => {
      if (operation === 'start') throw new VmctlError('QEMU_START', 'no power', { hint: 'did you pay?' });
    },
  });
  await rig.declare({ web: '' });
  const { stderr } = await rig.vmctl(['up']);
  expect(stderr.split('no power')).toHaveLength(2);
  expect(stderr).toContain('web │ start: FAILED, told at the end\n');
  expect(stderr).toContain('error: no power\nhint: Did you pay?\n');
});

test('errors are coloured only where the stream is a terminal, or where that is forced', async () => {
  await using rig = await Rig.create();
  const coloured = async (variables: Record<string, string>, terminal: boolean) => {
    const { stderr } = await rig.vmctl(['status', 'nobody'], { variables, terminal });
    return stderr.includes('\u001b[');
  };
  expect(await coloured({}, false)).toBe(false);
  expect(await coloured({}, true)).toBe(true);
  expect(await coloured({ NO_COLOR: '1' }, true)).toBe(false);
  expect(await coloured({ TERM: 'dumb' }, true)).toBe(false);
  expect(await coloured({ FORCE_COLOR: '1' }, false)).toBe(true);
  expect(await coloured({ FORCE_COLOR: '0' }, true)).toBe(false);
});

test('settings come from flags, then variables, then the project', async () => {
  await using rig = await Rig.create();
  await rig.write('vms/VMFile.kdl', 'vm "configured" { image "../disk.raw" }');
  await rig.write('flag.kdl', 'vm "flagged" { image "disk.raw" }');
  await rig.write('variable.kdl', 'vm "varied" { image "disk.raw" }');
  await rig.write('package.json', JSON.stringify({ vmctl: { file: 'vms/VMFile.kdl' } }));
  await rig.vmctl(['up']);
  expect(Object.keys(await rig.states())).toEqual(['configured']);
  await rig.vmctl(['up'], { variables: { VMCTL_FILE: 'variable.kdl' } });
  await rig.vmctl(['up', '--file', 'flag.kdl'], { variables: { VMCTL_FILE: 'variable.kdl' } });
  expect(Object.keys(await rig.states())).toEqual(['configured', 'flagged', 'varied']);
});

test.each([
  ['.vmctlrc.json', '{ "timeouts": { "ssh": 0 } }', 'must be seconds above 0'],
  ['package.json', JSON.stringify({ vmctl: { acelerator: 'tcg' } }), '"accelerator"'],
  ['.vmctlrc.yaml', 'concurrency:\n  boots: none\n', 'a whole number of 1 or more'],
  ['vmctl.config.ts', "export default { accelerator: 'xen' as string };", 'one of auto, kvm, tcg, hvf'],
  ['.vmctlrc', '{ "qemu": ', 'a configuration file cannot be read'],
])('a wrong setting in %s has exit code 3 and says what was expected', async (name, content, expected) => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.write(name, content);
  const { exitCode, stderr } = await rig.vmctl(['up']);
  expect(exitCode).toBe(3);
  expect(stderr).toContain(expected);
  expect(await rig.directories()).toEqual([]);
});

test('a configuration written in TypeScript is read', async () => {
  await using rig = await Rig.create();
  await rig.write('elsewhere.kdl', 'vm "typed" { image "disk.raw" }');
  await rig.write('vmctl.config.ts', "const file: string = 'elsewhere.kdl';\nexport default { file };");
  await rig.vmctl(['up']);
  expect(await rig.states()).toEqual({ typed: 'running' });
});

test('a path in a configuration file is meant from where that file lies', async () => {
  await using rig = await Rig.create();
  await rig.write('package.json', JSON.stringify({ vmctl: { file: 'vms/VMFile.kdl' } }));
  await rig.write('vms/VMFile.kdl', 'vm "above" { image "../disk.raw" }');
  await rig.write('packages/app/keep', '');
  const { exitCode } = await rig.vmctl(['up'], { cwd: 'packages/app' });
  expect(exitCode).toBe(0);
  expect(await rig.states()).toEqual({ above: 'running' });
  expect((await rig.vmctl(['ssh'], { cwd: 'packages/app' })).stderr).toContain('VM "above" cannot be logged in to');
});
