import { dirname } from 'node:path';
import { expect, test } from 'vitest';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';
import { mayMount, mountSmallDisk } from '../support/small-disk.js';

test.skipIf(!mayMount())(
  'on a full disk machines are paused, resumed, stopped and destroyed, and nothing is left of them',
  async () => {
    const image = JSON.stringify(await guestImage('pocket'));
    await using room = await MachineRoom.open();
    await using disk = await mountSmallDisk(dirname(room.paths.root), 40);
    if (disk === null) throw new Error('a file system cannot be mounted here');
    const vm = (name: string) => `vm "${name}" { image ${image}; memory 256; cloud-init; ssh }\n`;
    await room.write('VMFile.kdl', vm('one') + vm('two'));
    expect((await room.vmctl('up')).exitCode).toBe(0);
    await disk.fill();

    expect(await room.vmctl('suspend', 'one')).toMatchObject({ exitCode: 0 });
    expect(await room.vmctl('resume', 'one')).toMatchObject({ exitCode: 0 });
    // The guest cannot write what it has to before it powers off.
    expect(await room.vmctl('stop', 'one', '--timeout', '2s')).toMatchObject({ exitCode: 0 });
    expect(await room.states()).toMatchObject({ one: 'stopped' });
    await disk.fill();
    expect(await room.vmctl('image', 'prune')).toMatchObject({ exitCode: 0 });
    expect(await room.vmctl('gc')).toMatchObject({ exitCode: 0 });
    await disk.fill();
    expect(await room.vmctl('destroy', 'two', '--yes')).toMatchObject({ exitCode: 0 });
    await disk.fill();
    expect(await room.vmctl('down', '--destroy')).toMatchObject({ exitCode: 0 });
    expect(await room.leftovers()).toEqual([]);
    expect(await room.states()).toEqual({});
  },
);
