/** How a machine's state comes out of QEMU: what QEMU is told, and what is written, with a QEMU that is only its words. */
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readHeader } from '../../src/hypervisor/qemu/state-header.js';
import { writeState } from '../../src/hypervisor/qemu/state-stream.js';
import { VM_FILES } from '../../src/paths.js';
import { connectUnixSocket } from '../../src/util/unix-socket.js';
import { quiet, temporaryDirectory } from '../support/fixtures.js';

const HEADER = { mac: '52:54:00:12:34:56', readdressed: false };

/** A QEMU that hands out these bytes, and takes a while to give a migration up. */
function machine(directory: string, bytes: string) {
  const said: string[] = [];
  let status = () => 'active';
  const execute = async (command: string): Promise<unknown> => {
    said.push(command === 'query-migrate' ? status() : command);
    if (command === 'query-migrate') return { status: said.at(-1) };
    if (command === 'migrate') {
      const socket = await connectUnixSocket(join(directory, VM_FILES.stateSocket));
      // Whoever reads may hang up.
      socket.on('error', () => {});
      socket.end(bytes, () => {
        status = () => 'completed';
      });
    }
    if (command === 'migrate_cancel') {
      const ending = ['cancelling', 'cancelling'];
      status = () => ending.shift() ?? 'cancelled';
    }
    return {};
  };
  return { qmp: { execute }, said };
}

test('a state is a line about itself and what QEMU hands out', async () => {
  await using directory = await temporaryDirectory();
  const { qmp } = machine(directory.path, 'QEVM\n...');
  const path = join(directory.path, 'saved');
  const options = { directory: directory.path, withoutMemory: false, header: HEADER, signal: quiet.signal };
  await writeState(qmp, path, options);
  const found = await readHeader(path);
  expect(found?.header).toEqual(HEADER);
  expect((await readFile(path, 'utf8')).slice(found?.bytes)).toBe('QEVM\n...');
  expect(await readdir(directory.path)).toEqual(['saved']);
});

test('where it cannot be written, QEMU has given it up before that is told, so that the next one can begin', async () => {
  await using directory = await temporaryDirectory();
  const { qmp, said } = machine(directory.path, 'QEVM');
  const options = { directory: directory.path, withoutMemory: false, header: HEADER, signal: quiet.signal };
  await expect(writeState(qmp, join(directory.path, 'gone', 'saved'), options)).rejects.toThrow('ENOENT');
  expect(said.slice(-4)).toEqual(['migrate_cancel', 'cancelling', 'cancelling', 'cancelled']);
});
