const { ExecError, vms } = require('vmctl/jest');

test('a file that is copied into the machine is there', async () => {
  const { files } = await vms();
  await files.copyTo('package.json', '/tmp/');
  const { stdout } = await files.exec(['cat', '/tmp/package.json']);
  expect(JSON.parse(stdout).jest.preset).toBe('vmctl/jest');
});

test('a command that fails rejects with its output', async () => {
  const { files } = await vms();
  await expect(files.exec('ls /nowhere')).rejects.toThrow(ExecError);
});
