import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { expect, test } from 'vitest';
import { VM_FILES } from '../../src/paths.js';
import { readTextIfPresent } from '../../src/util/fs.js';
import { waitFor } from '../../src/util/wait.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';

const MINUTES = 60_000;

/** An address besides the one by DHCP, through which vmctl reaches the guest. */
const NETWORK_CONFIG = `version: 2
ethernets:
  mine:
    match:
      name: "en*"
    dhcp4: true
    addresses:
      - 10.77.0.9/24
`;

test(
  'Debian without a network card boots without waiting for a network, and with a network-config has that network',
  async () => {
    await using room = await MachineRoom.open();
    const common = `image ${JSON.stringify(await guestImage('debian'))}; memory 768`;
    await room.write('net.yaml', NETWORK_CONFIG);
    await room.write(
      'VMFile.kdl',
      `vm "bare" { ${common}; network "none"; cloud-init }
       vm "own" { ${common}; firmware "uefi"; cloud-init { network-config "net.yaml" }; ssh }`,
    );
    const up = await room.vmctl('up');
    expect(up.stderr.trimEnd().split('\n').at(-1)).toBe('2 up');
    const addresses = await room.vmctl(
      'exec',
      'own',
      '--',
      'ip -4 -br addr show scope global; ls -d /sys/firmware/efi',
    );
    expect(addresses.stdout).toMatch(/10\.0\.2\.15\/24.*10\.77\.0\.9\/24|10\.77\.0\.9\/24.*10\.0\.2\.15\/24/);
    expect(addresses.stdout).toContain('/sys/firmware/efi');

    const consoleLog = join(room.paths.vm('bare'), VM_FILES.consoleLog);
    const read = async () => stripVTControlCharacters((await readTextIfPresent(consoleLog)) ?? '');
    const prompted = async () => ((await read()).includes('bare login:') ? true : null);
    expect(await waitFor(prompted, { timeoutMs: 4 * MINUTES })).toBe(true);
    expect(await read()).toContain('cloud-init-local.service');
    // systemd tells every unit that it starts, and after a while every one that it waits for.
    expect(await read()).not.toMatch(/wait-online|Wait for Network/);

    expect((await room.vmctl('down', '--destroy', '--timeout', '1m')).exitCode).toBe(0);
    expect(await room.leftovers()).toEqual([]);
  },
  10 * MINUTES,
);
