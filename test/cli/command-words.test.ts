import { expect, test } from 'vitest';
import { commandWords } from '../../src/cli/command-words.js';
import { Rig } from '../support/rig.js';

const takesValue = (option: string) => ['--user', '--file', '-f'].includes(option);
const split = (line: string, first: number | null = 1) => {
  const { words, before } = commandWords(
    line.split(' ').filter((word) => word !== ''),
    { first, takesValue },
  );
  return [before, words.join(' ')];
};

test.each([
  ['web tail -f x', 1, 'web -- tail -f x'],
  ['web --user root', 1, 'web --user root'],
  ['web --user root tail -f x', 1, 'web --user root -- tail -f x'],
  ['--user root web tail --user x', 1, '--user root web -- tail --user x'],
  ['--user=root -f file web -- tail -f x', 1, '--user=root -f file web -- tail -f x'],
  ['web sh -c script -- word', 1, 'web -- sh -c script -- word'],
  ['-- uptime -p', 0, '-- uptime -p'],
  ['--file', 0, '--file'],
  ['', 0, ''],
])('the command for a guest begins with the word after the name: %s', (line, before, words) => {
  expect(split(line)).toEqual([before, words]);
});

test('where only "--" begins the command, all words before it are names', () => {
  expect(split('web db --file x -- npm test -- -u', null)).toEqual([2, 'web db --file x -- npm test -- -u']);
  expect(split('npm test', null)).toEqual([2, 'npm test']);
});

test('options behind the first word of a command are the guest’s, those before it are vmctl’s', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  for (const words of [
    ['exec', 'web', 'hostname', '-f'],
    ['exec', 'web', '--user', 'root', 'hostname', '--fqdn'],
    ['ssh', 'web', 'cat', '-f', '/etc/hostname'],
    ['ssh', 'web', '--user', 'root'],
    ['ssh', '--user', 'root', '--', 'uptime', '-p'],
  ]) {
    const { stderr } = await rig.vmctl(words);
    expect({ words, stderr }).toEqual({ words, stderr: expect.stringContaining('VM "web" cannot be logged in to') });
  }
});

test('an option that vmctl does not know is refused with a word about where those of the command stand', async () => {
  await using rig = await Rig.create();
  const exec = await rig.vmctl(['exec', 'web', '-t', 'top']);
  expect(exec.exitCode).toBe(2);
  expect(exec.stderr).toContain('options of the command stand behind its first word; see: vmctl exec --help');
  const run = await rig.vmctl(['run', 'npm', 'test', '-u']);
  expect(run.exitCode).toBe(2);
  expect(run.stderr).toContain('options of the command stand behind "--"; see: vmctl run --help');
});
