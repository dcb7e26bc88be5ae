/** What a VM is waited for, and in which order VMs come up, on real guests. */
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { upIn } from '../../src/api/up.js';
import type { VmEvent } from '../../src/model/event.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';
import type { RunResult } from '../support/rig.js';

const MINUTES = 60_000;

const pocket = async () => `image ${JSON.stringify(await guestImage('pocket'))}; memory 256; cloud-init`;

interface Status {
  readonly pid: number;
  readonly provisioning: string;
  readonly ready: { readonly conditions: readonly string[]; readonly since: string | null } | null;
  readonly lastFailure: { readonly step: string; readonly error: { readonly code: string } } | null;
}

async function statusOf(room: MachineRoom, name: string): Promise<Status> {
  return JSON.parse((await room.vmctl('status', name, '--json')).stdout);
}

test(
  'a VM is up when all conditions hold; else each is told, and up can be tried again without making it anew',
  async () => {
    await using room = await MachineRoom.open();
    const common = await pocket();
    const declare = (rest: string) =>
      room.write('VMFile.kdl', `vm "web" { ${common}; network "user" { forward 0 8080 }; ssh; ${rest} }`);
    const failing = ['port 5432', 'http "/none" port=8080', 'log "never said"', 'shell "echo no; exit 3"'];
    await declare(
      `ready { ${[...failing, 'file "/none"', 'unit "web.service"', 'cloud-init', 'timeout 15'].join('; ')} }`,
    );
    const failed = await room.vmctl('up');
    expect(failed.exitCode).toBe(124);
    expect(failed.stderr).toContain('VM "web" was not ready: within 15 s');
    for (const told of [
      'nothing listened on port 5432 (it listens on 22 only)',
      'GET /none on port 8080 was not answered with success (the connection was closed without an answer)',
      'no line of its console matched /never said/ (the last of ',
      'the command "echo no; exit 3" did not succeed (exit code 3, no)',
      'there was no /none (it is not there',
      'the unit web.service was not active (exit code 127, ',
      'cloud-init was not done (there is no /run/cloud-init/result.json)',
    ]) {
      expect(failed.stderr).toContain(told);
    }
    // The last words of the console.
    expect(failed.stderr).toContain('sshd listening');
    const before = await statusOf(room, 'web');
    expect(before).toMatchObject({
      provisioning: 'failed',
      ready: { since: null },
      lastFailure: { step: 'provision', error: { code: 'READY_TIMEOUT' } },
    });

    // The service comes up only after a while, and the others are waited for meanwhile.
    const service =
      'mkdir -p www; echo fine > www/health; (sleep 2; exec httpd -f -p 8080 -h www) > /dev/null 2>&1 < /dev/null &';
    const words = `echo "mark of this ""boot" | sudo tee /dev/ttyS0`;
    const steps = `provision "shell" run="once" { inline ${JSON.stringify(words)} }; provision "shell" { inline ${JSON.stringify(service)} }`;
    const holding = [
      'port 8080',
      'http "/health" port=8080 status=200',
      'log "SSHD listening$" flags="i"',
      'log "mark of this boot"',
    ];
    await declare(
      `${steps}; ready { ${[...holding, 'shell "pidof httpd"', 'file "~/www/health"', 'timeout "40s"'].join('; ')} }`,
    );
    const up = await room.vmctl('up');
    expect(up.stderr).not.toContain('reload');
    expect(up.stderr).toContain('2 steps run, ready');
    expect(up.exitCode).toBe(0);
    const after = await statusOf(room, 'web');
    expect(after).toMatchObject({ pid: before.pid, provisioning: 'done', lastFailure: null });
    expect(after.ready?.since).toMatch(/^\d{4}-/);

    // It is looked at again by every up, without touching it.
    await room.vmctl('exec', 'web', '--', 'killall httpd');
    const down = await room.vmctl('up', '--json');
    expect(down.exitCode).toBe(124);
    expect(down.stdout).toContain('nothing listened on port 8080');
    expect(await statusOf(room, 'web')).toMatchObject({
      pid: before.pid,
      provisioning: 'done',
      ready: { since: null },
    });

    // Started again it has to be ready anew, and lines of the start before say nothing.
    await room.vmctl('down', '--timeout', '20s');
    await declare(`${steps}; ready { log "sshd listening"; log "mark of this boot"; timeout "5s" }`);
    const again = await room.vmctl('up');
    expect(again.exitCode).toBe(124);
    expect(again.stderr).toContain('no line of its console matched /mark of this boot/ within 5 s: ');
  },
  5 * MINUTES,
);

test(
  'without SSH a port is waited for through its forward, and dependents of a VM that is not ready are told the chain',
  async () => {
    await using room = await MachineRoom.open();
    const common = await pocket();
    await room.write(
      'VMFile.kdl',
      `vm "good" { ${common}; network "user" { forward 0 22 }; ready { port 22; log "sshd listening" } }
       vm "bad" { ${common}; network "user" { forward 0 8080 }; ready { port 8080; http "/" port=8080; timeout "60s" } }
       vm "app" { ${common}; depends-on "bad" }
       vm "web" { ${common}; depends-on "good" "app" }`,
    );
    const { exitCode, stderr } = await room.vmctl('up');
    expect(exitCode).toBe(124);
    expect(stderr.trimEnd().split('\n').at(-1)).toBe('1 up, 3 failed');
    expect(stderr).toContain('nothing listened on port 8080 (the guest refused the connection)');
    expect(stderr).toContain('GET / on port 8080 was not answered with success (');
    expect(stderr).toContain(
      '"web" was not started, because "app" failed: "app" was not started, because "bad" failed',
    );
    expect(await room.states()).toEqual({ good: 'running', bad: 'running', app: 'stopped', web: 'stopped' });
    expect((await statusOf(room, 'good')).ready?.since).toMatch(/^\d{4}-/);
  },
  3 * MINUTES,
);

function eventsOf({ stdout }: RunResult): readonly VmEvent[] {
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

test(
  'in a diamond each VM starts when those below it are ready',
  async () => {
    await using room = await MachineRoom.open();
    const common = await pocket();
    // Long after its provisioning.
    const later = 'provision "shell" { inline "(sleep 3; touch up) > /dev/null 2>&1 < /dev/null &" }';
    const vm = `${common}; ssh; ${later}; ready { file "~/up" }`;
    await room.write(
      'VMFile.kdl',
      `vm "top" { ${vm}; depends-on "left" "right" }
       vm "left" { ${vm}; depends-on "base" }
       vm "right" { ${vm}; depends-on "base" }
       vm "base" { ${vm} }`,
    );
    const up = await room.vmctl('up', '--json');
    expect(up.exitCode).toBe(0);
    const order = eventsOf(up)
      .filter(({ type, step }) => type === 'done' && (step === 'start' || step === 'provision'))
      .map(({ vm: name, step }) => `${step} ${name}`);
    expect(order.slice(0, 2)).toEqual(['start base', 'provision base']);
    expect(order.slice(2, 4).toSorted()).toEqual(['start left', 'start right']);
    expect(order.slice(4, 6).toSorted()).toEqual(['provision left', 'provision right']);
    expect(order.slice(6)).toEqual(['start top', 'provision top']);
    expect(up.stdout).toContain('1 step run, ready');
  },
  5 * MINUTES,
);

/** A port of this host that was free just now. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not a TCP port');
  server.close();
  await once(server, 'close');
  return address.port;
}

/** A step that ends when the SSH of another guest answers on this port of the host. */
const meet = (port: number) =>
  `provision "shell" { inline "until nc -w 2 10.0.2.2 ${port} < /dev/null | grep -q SSH; do sleep 0.3; done"; timeout "90s" }`;

test(
  'a boot waits for nobody’s provisioning, and with --boot-first also not for that of what it depends on',
  async () => {
    await using room = await MachineRoom.open();
    const common = await pocket();
    const ports = { a: await freePort(), b: await freePort() };
    const declare = (more: string) =>
      room.write(
        'VMFile.kdl',
        `vm "a" { ${common}; network "user" { forward ${ports.a} 22 }; ssh; ${meet(ports.b)} }
         vm "b" { ${common}; network "user" { forward ${ports.b} 22 }; ssh; ${meet(ports.a)}; ${more} }`,
      );
    await declare('');
    // The second one boots while the first one’s step waits for it.
    const one = await room.vmctl('up', '--parallel', '1');
    expect(one.stderr.trimEnd().split('\n').at(-1)).toBe('2 up');
    await room.vmctl('down', '--destroy', '--timeout', '0');
    await declare('depends-on "a"');
    const two = await room.vmctl('up', '--boot-first', '--parallel', '1');
    expect(two.stderr.trimEnd().split('\n').at(-1)).toBe('2 up');
    expect(two.stderr).toMatch(/booted; waiting for [ab] to boot/);
  },
  5 * MINUTES,
);

test(
  'a VM of a program is ready before the program has it, and after a reboot again',
  async () => {
    const root = await mkdtemp(join(tmpdir(), 'vmctl-e2e-ready-'));
    try {
      await mkdir(join(root, 'project'));
      const outside = {
        variables: { ...process.env, XDG_DATA_HOME: join(root, 'data') },
        home: join(root, 'home'),
        cwd: join(root, 'project'),
        command: 'a test',
      };
      const old = 'test "$(cut -d. -f1 /proc/uptime)" -ge 15';
      const image = await guestImage('pocket');
      const ready = { shell: old, log: ['sshd listening', /^VMCTL-pocket: /i], port: 22, timeout: '90s' };
      await using vms = await upIn({ vms: { web: { image, memory: 256, ready } } }, outside);
      await vms.web.exec(old);
      const first = await vms.web.status();
      expect(first.ready).toMatchObject({ conditions: expect.arrayContaining(['port 22', 'log /sshd listening/']) });
      const rebooted = await vms.web.reboot({ grace: 0 });
      await rebooted.exec(old);
      const second = await rebooted.status();
      expect(second.ready?.since?.localeCompare(first.ready?.since ?? '')).toBe(1);
    } finally {
      await rm(root, { recursive: true, force: true, maxRetries: 3 });
    }
  },
  5 * MINUTES,
);

/** A service that init starts, now and at every boot, and that says so on the console. */
const SERVICE = '#!/bin/sh\\necho web is serving > /dev/ttyS0\\nexec httpd -f -p 8080 -h /home\\n';
const INSTALL = [
  `printf '${SERVICE}' | sudo tee /usr/local/bin/web`,
  'sudo chmod 755 /usr/local/bin/web',
  'echo ::respawn:/usr/local/bin/web | sudo tee -a /etc/inittab',
  'sudo kill -HUP 1',
  'sync',
].join('; ');

test(
  'a VM that goes on from what was frozen is looked at anew, with what its console had printed before, and so are a reset and a rebooted one',
  async () => {
    await using room = await MachineRoom.open();
    const common = await pocket();
    const declare = (ready: string) =>
      room.write(
        'VMFile.kdl',
        `vm "web" { ${common}; ssh; warm #true; provision "shell" run="once" { inline ${JSON.stringify(INSTALL)} }; ready { ${ready} } }`,
      );
    const serving = 'port 8080; log "web is serving"; timeout "15s"';
    const since = async () => (await statusOf(room, 'web')).ready?.since ?? '';
    await declare(serving);
    const cold = await room.vmctl('up');
    expect([cold.exitCode, cold.stderr]).toEqual([0, expect.stringContaining('frozen with its memory and disk')]);

    await room.vmctl('down', '--destroy');
    const warm = await room.vmctl('up');
    expect([warm.exitCode, warm.stderr]).toEqual([0, expect.stringContaining('from what was frozen')]);
    const seen = [await since()];
    // It was not said again.
    expect((await room.vmctl('log', 'web')).stdout).not.toContain('web is serving');
    expect((await room.vmctl('up')).stderr).toContain('already provisioned, ready');

    // What was said after that moment is not a part of the frozen machine.
    await room.vmctl('exec', 'web', '--', 'echo said later | sudo tee /dev/ttyS0');
    await declare('log "said later"; timeout "5s"');
    expect((await room.vmctl('up')).exitCode).toBe(0);
    const back = await room.vmctl('reset', 'web');
    expect([back.exitCode, back.stderr]).toEqual([
      124,
      expect.stringContaining('no line of its console matched /said later/ within 5 s'),
    ]);
    expect(await since()).toBe('');
    // Nor is a condition that it never met, although its memory is used.
    await room.vmctl('down', '--destroy');
    const never = await room.vmctl('up');
    expect(never.stderr).toContain('from what was frozen');
    expect([never.exitCode, never.stderr]).toEqual([124, expect.stringContaining('matched /said later/ within 5 s')]);

    await declare(serving);
    expect((await room.vmctl('up')).exitCode).toBe(0);
    seen.push(await since());
    expect((await room.vmctl('reset', 'web')).exitCode).toBe(0);
    seen.push(await since());
    expect((await room.vmctl('reboot', 'web', '--hard')).exitCode).toBe(0);
    seen.push(await since());
    expect(seen).toEqual([...new Set(seen)].toSorted());
    expect((await room.vmctl('log', 'web')).stdout).toContain('web is serving');

    // Neither lines of the frozen machine nor those of the boot before count for a boot.
    await room.vmctl('exec', 'web', '--', 'sudo sed -i /respawn:.usr.local/d /etc/inittab; sync');
    const broken = await room.vmctl('reboot', 'web', '--hard');
    expect([broken.exitCode, broken.stderr]).toEqual([
      124,
      expect.stringMatching(/nothing listened on port 8080 .*, and no line of its console matched \/web is serving\//),
    ]);
    expect((await room.vmctl('reset', 'web')).exitCode).toBe(0);
  },
  5 * MINUTES,
);

test(
  'a unit and cloud-init of Debian are waited for',
  async () => {
    await using room = await MachineRoom.open();
    const common = `image ${JSON.stringify(await guestImage('debian'))}; memory 768; cloud-init; ssh`;
    const unit = [
      '[Service]',
      'Type=notify',
      'NotifyAccess=all',
      "ExecStart=/bin/sh -c 'sleep 4; systemd-notify --ready; sleep infinity'",
    ];
    const make = `printf '%s\\n' ${unit.map((line) => `"${line}"`).join(' ')} | sudo tee /etc/systemd/system/late.service; sudo systemctl daemon-reload; sudo systemctl start --no-block late`;
    const declare = (ready: string) =>
      room.write(
        'VMFile.kdl',
        `vm "web" { ${common}; provision "shell" { inline ${JSON.stringify(make)} }; ready { ${ready} } }`,
      );
    await declare('unit "late.service"; cloud-init');
    const up = await room.vmctl('up');
    expect(up.stderr).toContain('1 step run, ready');
    expect(up.exitCode).toBe(0);
    const inside = await room.vmctl('exec', 'web', '--', 'systemctl is-active late; cat /run/cloud-init/result.json');
    expect(inside.stdout).toMatch(/^active\n[^]*"errors": \[\]/);
    await declare('unit "none.service"; timeout 20');
    const failed = await room.vmctl('up');
    expect(failed.exitCode).toBe(124);
    expect(failed.stderr).toMatch(/the unit none\.service was not active within 20 s: exit code \d, inactive/);
  },
  15 * MINUTES,
);
