import { expect, test } from 'vitest';
import { sha256 } from '../support/digest.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';

const MINUTES = 60_000;

test(
  'two Debian machines with real cloud-init: up, read back, down, up again, gone',
  async () => {
    const image = await guestImage('debian');
    const before = await sha256(image);
    await using room = await MachineRoom.open();
    await room.write('site.conf', 'listen 80;\n', 0o640);
    await room.write('setup.sh', '#!/bin/sh\nset -e\nsudo install -m 0644 /tmp/site.conf /etc/site.conf\n', 0o755);
    const common = `image ${JSON.stringify(image)}; vcpus 1; memory 768; disk "6GiB"`;
    await room.write(
      'VMFile.kdl',
      `vm "web" {
        ${common}
        cloud-init { hostname "web-01" }
        ssh { user "deploy" }
        provision "file" { source "site.conf"; destination "/tmp/site.conf" }
        provision "shell" { script "setup.sh" }
        provision "shell" { inline "cloud-init status --wait" }
      }
      vm "db" {
        ${common}
        cloud-init { hostname "db-01" }
        ssh { user "deploy" }
        provision "shell" { inline "hostname; systemctl is-system-running --wait || true" }
      }`,
    );

    const up = await room.vmctl('up');
    expect(up.stderr.trimEnd().split('\n').at(-1)).toBe('2 up');
    expect(up.exitCode).toBe(0);
    const read = async (name: string, line: string) => (await room.vmctl('exec', name, '--', line)).stdout.trim();
    expect(await read('web', 'hostname; id -un; cat /etc/site.conf; stat -c %a /tmp/site.conf')).toBe(
      'web-01\ndeploy\nlisten 80;\n640',
    );
    expect(await read('db', 'hostname; sudo -n id -un')).toBe('db-01\nroot');
    // 6 GiB of disk, less the file system's own share.
    expect(Number(await read('web', 'df --output=size -BM / | tail -1 | tr -dc 0-9'))).toBeGreaterThan(5_600);
    expect(await read('web', 'cloud-init status')).toContain('done');
    expect(await read('web', 'cat /sys/class/dmi/id/product_name; systemctl is-active ssh')).toContain('active');

    const down = await room.vmctl('down', '--timeout', '2m');
    expect(down.stderr.match(/powered off by itself/g)).toHaveLength(2);
    expect(await room.states()).toEqual({ db: 'stopped', web: 'stopped' });

    const again = await room.vmctl('up', 'web');
    expect(again.exitCode).toBe(0);
    expect(again.stderr).toContain('3 steps run');
    expect(await read('web', 'cat /etc/site.conf')).toBe('listen 80;');

    expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
    expect(await room.leftovers()).toEqual([]);
    expect(await room.states()).toEqual({});
    expect(await sha256(image)).toBe(before);
  },
  20 * MINUTES,
);
