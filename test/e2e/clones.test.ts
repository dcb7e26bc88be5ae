import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';

const MINUTES = 60_000;

/** What makes a guest different from its siblings, one a line. */
const WHO = `hostname; cat /etc/machine-id /sys/class/net/eth0/address; head -c 16 /dev/urandom | xxd -p; cat own common`;

test(
  'four clones of one frozen machine: one freeze, restores for the others, and nothing in common that must not be',
  async () => {
    await using room = await MachineRoom.open();
    const image = JSON.stringify(await guestImage('pocket'));
    await room.write(
      'VMFile.kdl',
      `vm "worker" count=4 {
        image ${image}
        memory 256
        network "user" { forward 0 80 }
        cloud-init
        ssh
        warm #true
        provision "shell" { inline "cat /proc/sys/kernel/random/uuid | tr -d - | sudo tee /etc/machine-id; cat /etc/machine-id > common" }
        provision "shell" { inline "echo $(hostname) >> froze; sudo busybox httpd -p 80 -h $HOME" }
        provision "shell" run="each" { inline "echo $VMCTL_INDEX $(hostname) >> own" }
      }`,
    );
    const up = await room.vmctl('up');
    expect(up.stderr.trimEnd().split('\n').at(-1)).toBe('4 up');
    expect(up.stderr.match(/worker-\d │ provision: frozen with its memory and disk/g)).toEqual([
      'worker-1 │ provision: frozen with its memory and disk',
    ]);
    expect(up.stderr.match(/, from what was frozen/g)).toHaveLength(3);

    const names = ['worker-1', 'worker-2', 'worker-3', 'worker-4'];
    const facts = await Promise.all(
      names.map(async (name) => {
        const { stdout } = await room.vmctl('exec', name, '--', WHO);
        const [hostname, machineId, mac, random, ...rest] = stdout.trimEnd().split('\n');
        const status = JSON.parse((await room.vmctl('status', name, '--json')).stdout);
        const port = status.forwards.find(({ guest }: { guest: number }) => guest === 80)?.host;
        const page = await (await fetch(`http://127.0.0.1:${port}/own`)).text();
        const hostKey = await readFile(status.ssh.knownHosts, 'utf8');
        return { name, hostname, machineId, mac, random, rest, port, page, hostKey: hostKey.split(' ')[2], status };
      }),
    );
    expect(facts.map(({ hostname }) => hostname)).toEqual(names);
    expect(facts.map(({ page }) => page)).toEqual(names.map((name, i) => `${i + 1} ${name}\n`));
    // What was done before is the same in all.
    expect(new Set(facts.map(({ rest }) => rest[1])).size).toBe(1);
    expect(facts.map(({ mac }) => mac)).toEqual(facts.map(({ status }) => status.mac));
    const distinct = (['machineId', 'mac', 'random', 'port', 'hostKey'] as const).map(
      (key) => [key, new Set(facts.map((fact) => fact[key])).size] as const,
    );
    expect(Object.fromEntries(distinct)).toEqual({ machineId: 4, mac: 4, random: 4, port: 4, hostKey: 4 });

    // Back to the frozen moment, and still the same machine.
    const reset = await room.vmctl('reset', 'worker-2');
    expect(reset.exitCode).toBe(0);
    const after = (await room.vmctl('exec', 'worker-2', '--', WHO)).stdout.split('\n');
    expect([after[0], after[1], after[2], after[4]]).toEqual([
      'worker-2',
      facts[1]?.machineId,
      facts[1]?.mac,
      '2 worker-2',
    ]);

    // It boots with what it was given.
    expect((await room.vmctl('reboot', 'worker-4')).exitCode).toBe(0);
    const booted = await room.vmctl(
      'ssh',
      'worker-4',
      '--',
      'hostname; cat /etc/machine-id /sys/class/net/eth0/address',
    );
    expect(booted.stdout).toBe(`worker-4\n${facts[3]?.machineId}\n${facts[3]?.mac}\n`);

    expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
    const again = await room.vmctl('up', 'worker-1', 'worker-4');
    expect(again.stderr.match(/, from what was frozen/g)).toHaveLength(2);
    expect((await room.vmctl('exec', 'worker-4', '--', 'cat own froze')).stdout).toMatch(/^4 worker-4\nworker-\d\n$/);
    expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
    expect(await room.leftovers()).toEqual([]);
  },
  10 * MINUTES,
);

/** Tells the address that the network gives to whoever asks for one now, and leaves the one of before alone. */
const ASK = `printf '#!/bin/sh\\n[ "$1" != bound ] || echo "$ip"\\n' > ask; chmod 755 ask
sudo udhcpc -i eth0 -f -n -q -S -s $PWD/ask 2>/dev/null`;

test(
  'a clone keeps its address over its own snapshots, and where it was suspended to the disk',
  async () => {
    await using room = await MachineRoom.open();
    const image = JSON.stringify(await guestImage('pocket'));
    await room.write('VMFile.kdl', `vm "worker" count=2 { image ${image}; memory 256; cloud-init; ssh; warm #true }`);
    expect((await room.vmctl('up')).stderr).toMatch(/^worker-2 .*, from what was frozen/m);
    const steps: readonly (readonly (readonly string[])[])[] = [
      [['snapshot', 'worker-2', 'first']],
      [['restore', 'worker-2', 'first']],
      [
        ['suspend', 'worker-2', '--to-disk'],
        ['resume', 'worker-2'],
      ],
      // What boots begins anew, and so does what is kept of it.
      [['reboot', 'worker-2']],
      [['snapshot', 'worker-2', 'booted']],
      [['restore', 'worker-2', 'first']],
    ];
    for (const commands of steps) {
      for (const command of commands) {
        const { exitCode, stderr } = await room.vmctl(...command);
        if (exitCode !== 0) throw new Error(stderr);
      }
      const { stdout } = await room.vmctl('exec', 'worker-2', '--', ASK);
      expect({ commands, address: stdout }).toEqual({ commands, address: '10.0.2.15\n' });
    }
  },
  10 * MINUTES,
);
