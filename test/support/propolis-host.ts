/**
 * An illumos host without anything behind it: `zfs`, `dladm`, `zoneadm` and their like over one state, which can be
 * told to fail. `propolis-host.test.ts` holds what they print against `test/fixtures/propolis/commands.json`.
 */
import { writeFileSync } from 'node:fs';
import { VmctlError } from '../../src/errors.js';
import type { CommandRunner } from '../../src/util/exec.js';
import { type Result, NOT_FOUND, failed, flagsOf, printed } from './propolis-host-words.js';
import { zoneCommand } from './propolis-host-zones.js';

export interface HostState {
  /** The fields of `zoneadm list -p`, unescaped. */
  zones: string[][];
  vnics: Record<string, { over: string; mac: string }>;
  stubs: string[];
  addresses: Record<string, string>;
  filesystems: string[];
  volumes: Record<string, { bytes: number; origin?: string; content?: string }>;
  snapshots: string[];
  /** What `arp -an` knows: addresses by MAC. */
  neighbours: Record<string, string>;
}

export interface HostOptions extends Partial<HostState> {
  /** Default true; else what changes something needs `pfexec`. */
  readonly isRoot?: boolean;
  /** Default true; else it gives a user no rights. */
  readonly pfexecHelps?: boolean;
  /** The propolis-server that is installed. */
  readonly binary?: string;
  /** Takes the names of what there is, for the fake propolis-server. */
  readonly worldFile?: string;
}

const LOOKS: ReadonlySet<string> = new Set(['list', 'show-vnic', 'show-link', 'show-phys', 'show-addr', 'info']);

export class FakeHost {
  readonly state: HostState;
  /** Every command, as it was typed. */
  readonly commands: string[] = [];
  /** Every command that changes something, as it was typed. */
  readonly changes: string[] = [];
  /** Fails the change with this number, from 0. */
  failAt: number | null = null;
  /** Fails the command with this number, from 0, whatever it is. */
  failAtCommand: number | null = null;
  /** Says yes for a command that is to fail. */
  failIf: (command: string) => boolean = () => false;
  readonly #options: HostOptions;

  constructor(options: HostOptions = {}) {
    this.#options = options;
    const { zones = [], vnics = {}, stubs = [], addresses = {}, filesystems = ['rpool'] } = options;
    const { volumes = {}, snapshots = [], neighbours = {} } = options;
    this.state = structuredClone({ zones, vnics, stubs, addresses, filesystems, volumes, snapshots, neighbours });
    this.#tellWorld();
  }

  readonly run: CommandRunner = async (program, words, options) => {
    if (options?.signal?.aborted === true) throw new VmctlError('ABORTED', 'interrupted');
    const { exitCode, stdout, stderr } = this.execute([program, ...words]);
    if (exitCode === 0) return { stdout: stdout.replace(/\n$/, ''), stderr };
    if (exitCode === NOT_FOUND) throw new VmctlError('HOST_UNSUPPORTED', `${program} is not installed or not in PATH`);
    const said = stderr.trim();
    throw new VmctlError('COMMAND_FAILED', `${program} failed with exit code ${exitCode}: ${said.split('\n').at(-1)}`, {
      ...(said.includes('\n') ? { details: said } : {}),
      fields: { program, exitCode },
    });
  };

  /** What is there of VMs. */
  left(): readonly string[] {
    const { volumes, snapshots, vnics } = this.state;
    return [...Object.keys(volumes), ...snapshots, ...Object.keys(vnics)];
  }

  execute(argv: readonly string[]): Result {
    this.commands.push(argv.join(' '));
    if (this.failAtCommand === this.commands.length - 1) return failed(`${argv[0]}: I/O error`);
    if (argv[0] === 'pfexec') return this.#execute(argv.slice(1), this.#options.pfexecHelps ?? true);
    return this.#execute(argv, this.#options.isRoot ?? true);
  }

  #execute(argv: readonly string[], privileged: boolean): Result {
    const [program = '', verb = ''] = argv;
    const command = argv.join(' ');
    const looks =
      verb === '--version' ||
      LOOKS.has(verb) ||
      argv.includes('list') ||
      argv.includes('info') ||
      ['arp', 'id'].includes(program);
    if (!looks) {
      if (!privileged) return failed(`${program}: permission denied`);
      this.changes.push(command);
      if (this.failAt === this.changes.length - 1) return failed(`${program}: I/O error`);
    }
    if (this.failIf(command)) return failed(`${program}: I/O error`);
    const result = this.#dispatch(program, argv.slice(1), privileged);
    if (!looks) this.#tellWorld();
    return result;
  }

  #dispatch(program: string, words: readonly string[], privileged: boolean): Result {
    switch (program) {
      case 'zfs':
        return this.#zfs(words);
      case 'dladm':
        return this.#dladm(words);
      case 'zoneadm':
      case 'zonecfg':
        return zoneCommand(program, words, this.state.zones);
      case 'ipadm':
        return this.#ipadm(words);
      case 'qemu-img':
        return this.#convert(words);
      case 'arp':
        return arp(this.state.neighbours);
      case 'id':
        return printed([privileged ? '0' : '101']);
      case 'kill':
        return kill(words);
      case 'bhyvectl':
        return printed([]);
      default:
        if (this.#options.binary === program) return printed(['propolis-server 0.1.0']);
        return { exitCode: NOT_FOUND, stdout: '', stderr: '' };
    }
  }

  #zfs([verb, ...words]: readonly string[]): Result {
    const { volumes, snapshots, filesystems } = this.state;
    const { options, names } = flagsOf(words, 'Vo');
    const [first = '', second = ''] = names;
    const there = (name: string) => name in volumes || snapshots.includes(name) || filesystems.includes(name);
    switch (verb) {
      case 'list': {
        if (!there(first)) return failed(`cannot open '${first}': dataset does not exist`);
        const volume = volumes[first];
        const fields = { name: first, volsize: String(volume?.bytes ?? '-'), origin: volume?.origin ?? '-' };
        return printed([pick(fields, options['o'] ?? '').join('\t')]);
      }
      case 'create': {
        const bytes = options['V'];
        if (bytes === undefined) {
          for (const [i] of first.split('/').entries())
            filesystems.push(
              first
                .split('/')
                .slice(0, i + 1)
                .join('/'),
            );
          return printed([]);
        }
        if (there(first)) return failed(`cannot create '${first}': dataset already exists`);
        volumes[first] = { bytes: Number(bytes) };
        return printed([]);
      }
      case 'snapshot':
        if (there(first)) return failed(`cannot create snapshot '${first}': dataset already exists`);
        snapshots.push(first);
        return printed([]);
      case 'clone': {
        const source = volumes[first.split('@')[0] ?? ''];
        if (!snapshots.includes(first) || source === undefined)
          return failed(`cannot open '${first}': dataset does not exist`);
        if (there(second)) return failed(`cannot create '${second}': dataset already exists`);
        volumes[second] = { ...source, origin: first };
        return printed([]);
      }
      case 'set': {
        const volume = volumes[second];
        if (volume === undefined) return failed(`cannot open '${second}': dataset does not exist`);
        volume.bytes = Number(first.replace('volsize=', ''));
        return printed([]);
      }
      case 'destroy':
        return this.#destroy(first);
      case undefined:
      default:
        return failed(`unrecognized command '${verb ?? ''}'`, 2);
    }
  }

  #destroy(name: string): Result {
    const { volumes, snapshots } = this.state;
    if (snapshots.includes(name)) {
      const clones = Object.entries(volumes).flatMap(([clone, { origin }]) => (origin === name ? [clone] : []));
      if (clones.length > 0) {
        const advice = "use '-R' to destroy the following datasets:";
        return failed([`cannot destroy '${name}': snapshot has dependent clones`, advice, ...clones].join('\n'));
      }
      snapshots.splice(snapshots.indexOf(name), 1);
      return printed([]);
    }
    if (name.includes('@')) return failed('could not find any snapshots to destroy; check snapshot names.');
    if (!(name in volumes)) return failed(`cannot open '${name}': dataset does not exist`);
    if (snapshots.some((one) => one.startsWith(`${name}@`)))
      return failed(`cannot destroy '${name}': volume has children`);
    this.state.volumes = Object.fromEntries(Object.entries(volumes).filter(([one]) => one !== name));
    return printed([]);
  }

  #dladm([verb, ...words]: readonly string[]): Result {
    const { vnics, stubs } = this.state;
    const { options, names } = flagsOf(words, 'olm');
    const [name = ''] = names;
    const found = vnics[name];
    const missing = failed(`dladm: invalid vnic name '${name}': object not found`);
    switch (verb) {
      case 'show-phys':
        return printed(['e1000g0']);
      case 'show-link':
        return printed([
          'e1000g0:phys',
          ...Object.keys(vnics).map((one) => `${one}:vnic`),
          ...stubs.map((one) => `${one}:etherstub`),
        ]);
      case 'show-vnic': {
        if (found === undefined) return missing;
        const values = pick({ link: name, over: found.over, macaddress: found.mac, vid: '0' }, options['o'] ?? '');
        const escape = (value: string) => (values.length > 1 ? value.replaceAll(/[:\\]/g, '\\$&') : value);
        return printed([values.map(escape).join(':')]);
      }
      case 'create-vnic': {
        if (!/^[A-Za-z_][\w.]{0,29}\d$/.test(name)) return failed(`dladm: invalid link name '${name}'`);
        if (found !== undefined)
          return failed(`dladm: vnic creation over ${options['l']} failed: object already exists`);
        // Octets are told without the zero before them.
        const mac = (options['m'] ?? '2:8:20:1:2:3').replaceAll(/\b0(?=[\da-f])/g, '');
        vnics[name] = { over: options['l'] ?? '', mac };
        return printed([]);
      }
      case 'delete-vnic':
        if (found === undefined) return missing;
        this.state.vnics = Object.fromEntries(Object.entries(vnics).filter(([one]) => one !== name));
        return printed([]);
      case undefined:
      default:
        return failed(`dladm: unknown subcommand '${verb ?? ''}'`);
    }
  }

  #ipadm([verb, ...words]: readonly string[]): Result {
    const { names } = flagsOf(words, 'o');
    const address = this.state.addresses[names[0] ?? ''];
    if (verb === 'show-addr' && address !== undefined) return printed([address]);
    return failed(`ipadm: could not ${verb === 'show-addr' ? 'get' : 'delete'} address: Object not found`);
  }

  #convert(words: readonly string[]): Result {
    const [source = '', device = ''] = words.slice(words.indexOf('--') + 1);
    const volume = this.state.volumes[device.replace('/dev/zvol/rdsk/', '')];
    if (volume === undefined) return failed(`qemu-img: Could not open '${device}': No such file or directory`);
    volume.content = source;
    return printed([]);
  }

  #tellWorld(): void {
    const { volumes, vnics } = this.state;
    const names = [...Object.keys(volumes).map((name) => `/dev/zvol/rdsk/${name}`), ...Object.keys(vnics)];
    if (this.#options.worldFile !== undefined) writeFileSync(this.#options.worldFile, JSON.stringify(names));
  }
}

function pick(fields: Readonly<Record<string, string>>, wanted: string): readonly string[] {
  return wanted.split(',').map((name) => fields[name] ?? '?');
}

/** As SmartOS prints it; `commands.json` has a recorded one. */
function arp(neighbours: HostState['neighbours']): Result {
  const row = ([mac, address]: [string, string]) =>
    ['net0'.padEnd(6), address.padEnd(20), '255.255.255.255', ' '.repeat(8), mac].join(' ');
  return printed([
    'Net to Media Table: IPv4',
    'Device   IP Address               Mask      Flags      Phys Addr',
    '------ -------------------- --------------- -------- ---------------',
    ...Object.entries(neighbours).map(row),
  ]);
}

function kill([signal = '', pid = '']: readonly string[]): Result {
  try {
    process.kill(Number(pid), signal === '-KILL' ? 'SIGKILL' : 'SIGTERM');
    return printed([]);
  } catch {
    return failed(`kill: ${pid}: no such process`);
  }
}
