import { describe, expect, test } from 'vitest';
import { VmctlError } from '../../src/errors.js';
import { attachTap, checkTap, parseLink, removeTap, tapOf } from '../../src/hypervisor/qemu/tap.js';
import type { CommandRunner } from '../../src/util/exec.js';
import { vmSpec } from '../support/fixtures.js';

const TAP = { name: 'vmctl0a1b2c3d', bridge: 'br0' } as const;

/** iproute2 6.1, shortened to what no reader looks at. */
const link = (flags: readonly string[], rest = '') =>
  `[{"ifindex":3,"ifname":"x","flags":${JSON.stringify(flags)},"mtu":1500,"operstate":"DOWN"${rest}}]`;
const BRIDGE = link(['NO-CARRIER', 'BROADCAST', 'UP'], ',"linkinfo":{"info_kind":"bridge","info_data":{}}');
const BRIDGE_DOWN = link(['BROADCAST'], ',"linkinfo":{"info_kind":"bridge","info_data":{}}');
const CARD = link(['BROADCAST', 'UP', 'LOWER_UP']);
const tap = (flags: readonly string[], master = 'br0') =>
  link(flags, `,"master":"${master}","linkinfo":{"info_kind":"tun","info_data":{"type":"tap","user":"root"}}`);
const IDLE_TAP = tap(['NO-CARRIER', 'BROADCAST', 'UP']);
const BUSY_TAP = tap(['BROADCAST', 'UP', 'LOWER_UP']);

/** A host with these interfaces, which keeps what was done to them; `refuses` is what the kernel says to changes. */
function host(links: Readonly<Record<string, string>>, refuses: string | null = null) {
  const done: string[] = [];
  const run: CommandRunner = async (_program, words) => {
    if (words.includes('show')) {
      const found = links[words.at(-1) ?? ''];
      if (found !== undefined) return { stdout: found, stderr: '' };
      throw new VmctlError('COMMAND_FAILED', `ip failed with exit code 1: Device "${words.at(-1)}" does not exist.`);
    }
    if (refuses !== null) throw new VmctlError('COMMAND_FAILED', `ip failed with exit code 2: ${refuses}`);
    done.push(words.join(' '));
    return { stdout: '', stderr: '' };
  };
  return { run, done };
}

const user = String(process.getuid?.() ?? 0);
const ADD = `tuntap add dev ${TAP.name} mode tap user ${user}`;
const CONNECT = `link set dev ${TAP.name} master br0 up`;
const REMOVE = `link delete dev ${TAP.name}`;

test('a VM on a bridge has a device whose name is its own, always the same and short enough', () => {
  const of = (name: string, project: string | null) =>
    tapOf(vmSpec({ name, project, network: { kind: 'tap', bridge: 'br1' } }));
  const web = of('web', '/a/VMFile.kdl');
  expect(web).toEqual({ name: expect.stringMatching(/^vmctl[0-9a-f]{8}$/), bridge: 'br1' });
  expect(of('web', '/a/VMFile.kdl')).toEqual(web);
  expect(new Set([web, of('db', '/a/VMFile.kdl'), of('web', '/b'), of('web', null)].map((one) => one?.name)).size).toBe(
    4,
  );
  expect(tapOf(vmSpec())).toBeNull();
});

describe('a host', () => {
  test('with a bridge is tried, and left as it was', async () => {
    const { run, done } = host({ br0: BRIDGE });
    await checkTap(TAP, run);
    // The answer of `show` does not change here, so there is nothing to remove; see the end-to-end test.
    expect(done).toEqual([ADD, CONNECT]);
  });

  test('where the VM runs already is fine', async () => {
    const { run, done } = host({ br0: BRIDGE, [TAP.name]: BUSY_TAP }, 'RTNETLINK answers: Operation not permitted');
    await checkTap(TAP, run);
    expect(done).toEqual([]);
  });

  test('on which somebody has made the device before needs no permission', async () => {
    const { run } = host({ br0: BRIDGE, [TAP.name]: IDLE_TAP }, 'RTNETLINK answers: Operation not permitted');
    const use = async () => {
      await checkTap(TAP, run);
      await attachTap(TAP, run);
      await removeTap(TAP.name, run);
    };
    await expect(use()).resolves.toBeUndefined();
  });

  test.each([
    [{}, 'this host has no bridge "br0"', /sudo ip link add br0 type bridge && sudo ip link set br0 up/],
    [{ br0: BRIDGE_DOWN }, 'the bridge "br0" is down', /sudo ip link set br0 up/],
    [{ br0: CARD }, 'the network interface "br0" is not a bridge', /ip link show type bridge/],
  ])('without a usable bridge is told what to type: %j', async (links, message, hint) => {
    const { run, done } = host(links);
    await expect(checkTap(TAP, run)).rejects.toMatchObject({
      code: 'HOST_UNSUPPORTED',
      message,
      hint: expect.stringMatching(hint),
    });
    expect(done).toEqual([]);
  });

  test.each(['open: Permission denied', 'ioctl(TUNSETIFF): Operation not permitted'])(
    'that does not let this user make a device is told what root has to type: %s',
    async (words) => {
      const { run } = host({ br0: BRIDGE }, words);
      await expect(checkTap(TAP, run)).rejects.toMatchObject({
        code: 'HOST_UNSUPPORTED',
        message: expect.stringContaining(words),
        hint: expect.stringContaining(
          `sudo ip tuntap add dev ${TAP.name} mode tap user "$USER"; sudo ip link set ${TAP.name} master br0 up`,
        ),
      });
    },
  );

  test('whose "ip" is another one is told which it must be', () => {
    expect(() => parseLink('3: br0: <BROADCAST>\n')).toThrow('the program "ip" does not tell');
  });
});

describe('a device', () => {
  test('that is left over is used again, and put into the bridge that is declared now', async () => {
    const fit = host({ [TAP.name]: IDLE_TAP });
    await attachTap(TAP, fit.run);
    expect(fit.done).toEqual([]);
    const elsewhere = host({ [TAP.name]: tap(['NO-CARRIER', 'UP'], 'br9') });
    await attachTap(TAP, elsewhere.run);
    expect(elsewhere.done).toEqual([CONNECT]);
  });

  test('that a process has open is neither taken nor removed', async () => {
    const { run, done } = host({ [TAP.name]: BUSY_TAP });
    await expect(attachTap(TAP, run)).rejects.toMatchObject({
      code: 'HOST_UNSUPPORTED',
      message: `the TAP device ${TAP.name} is in use by another process`,
    });
    await removeTap(TAP.name, run);
    expect(done).toEqual([]);
  });

  test('is removed when it is free, and one that is gone is no failure', async () => {
    const free = host({ [TAP.name]: IDLE_TAP });
    await removeTap(TAP.name, free.run);
    expect(free.done).toEqual([REMOVE]);
    const gone = host({});
    await removeTap(TAP.name, gone.run);
    expect(gone.done).toEqual([]);
    const stuck = host({ [TAP.name]: IDLE_TAP }, 'RTNETLINK answers: Device or resource busy');
    await expect(removeTap(TAP.name, stuck.run)).rejects.toThrow('Device or resource busy');
  });
});
