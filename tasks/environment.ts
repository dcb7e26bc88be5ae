/** Builds the world that tasks act on, from plain settings. */
import { setMaxListeners } from 'node:events';
import { type RouterOptions, createRouter } from '../src/hypervisor/router.js';
import type { RouterHypervisor } from '../src/hypervisor/router.js';
import type { PullPolicy } from '../src/model/pull-policy.js';
import type { WarmLevel } from '../src/model/warm.js';
import type { BackendKind } from '../src/model/vm.js';
import { type StatePaths, defaultStateRoot, statePaths } from '../src/paths.js';
import { Registry } from '../src/registry.js';
import type { Settings } from '../src/settings/keys.js';
import { powerOffBySsh } from './power-off.js';
import { type Concurrency, EventHub, type TaskEnvironment, createLimits } from './context.js';

/** What can be configured of VMs on illumos; see `PropolisOptions`. */
export interface PropolisSettings {
  readonly binary: string | undefined;
  readonly bootrom: string | undefined;
  readonly dataset: string | undefined;
  readonly link: string | undefined;
}

const WARM_BUDGET_BYTES = 20 * 1024 ** 3;

export interface EnvironmentSettings {
  readonly variables: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  readonly cwd: string;
  readonly command: string;
  readonly signal: AbortSignal;
  /** The state directory; default that of the user, by the variables. */
  readonly paths?: StatePaths | undefined;
  /** The backend for new VMs; default the platform's. */
  readonly backend?: BackendKind | undefined;
  readonly accelerator?: 'auto' | 'kvm' | 'tcg' | 'hvf' | undefined;
  readonly qemuBinary?: string | undefined;
  readonly qemuArguments?: readonly string[] | undefined;
  readonly propolis?: PropolisSettings | undefined;
  /** Where the addresses of guests on a bridge are written down; default the usual places of dnsmasq. */
  readonly leaseFiles?: readonly string[] | undefined;
  readonly concurrency?: Concurrency | undefined;
  readonly sshTimeoutSeconds?: number | undefined;
  /** Default 30. */
  readonly stopGraceSeconds?: number | undefined;
  /** Default: as the VMFile says, and nothing where it says nothing. */
  readonly warm?: WarmLevel | undefined;
  /** True: nothing frozen is used or made. */
  readonly cold?: boolean | undefined;
  /** Bytes; default 20 GiB. */
  readonly warmBudgetBytes?: number | undefined;
  /** Default `missing`. */
  readonly pull?: PullPolicy | undefined;
  /** Told about repairs of the registry. */
  readonly onNote?: ((text: string) => void) | undefined;
  /** Takes the place of the backends of this package. */
  readonly hypervisor?: RouterHypervisor | undefined;
}

/** The part of the world that somebody can configure. */
export function configured(settings: Settings): Partial<EnvironmentSettings> {
  return {
    backend: settings.backend,
    accelerator: settings.accelerator,
    leaseFiles: settings['network.leases'],
    qemuBinary: settings['qemu.binary'],
    qemuArguments: settings['qemu.extraArgs'],
    propolis: {
      binary: settings['propolis.binary'],
      bootrom: settings['propolis.bootrom'],
      dataset: settings['propolis.dataset'],
      link: settings['propolis.link'],
    },
    concurrency: { downloads: settings['concurrency.downloads'], boots: settings['concurrency.boots'] },
    sshTimeoutSeconds: settings['timeouts.ssh'],
    stopGraceSeconds: settings['timeouts.stop'],
    pull: settings['images.pull'],
    warm: settings.warm,
    // Whoever sets it to nothing means VMs whose VMFile asks for it, too.
    cold: settings.warm === 'off',
    warmBudgetBytes: settings['snapshots.budget'],
  };
}

export function createEnvironment(settings: EnvironmentSettings): TaskEnvironment {
  const { variables, home, cwd, command } = settings;
  // One of its own, for which Node.js does not warn of many listeners: every VM has some.
  const signal = AbortSignal.any([settings.signal]);
  setMaxListeners(0, signal);
  const paths = settings.paths ?? statePaths(defaultStateRoot(variables, home));
  const router: RouterOptions = {
    qemu: {
      binary: settings.qemuBinary ?? null,
      extraArguments: settings.qemuArguments ?? [],
      accelerator: settings.accelerator ?? 'auto',
      hostFile: paths.host,
      searchPath: variables['PATH'] ?? '',
      leaseFiles: settings.leaseFiles ?? null,
    },
    propolis: {
      binary: settings.propolis?.binary ?? null,
      bootrom: settings.propolis?.bootrom ?? null,
      dataset: settings.propolis?.dataset ?? null,
      link: settings.propolis?.link ?? null,
      locks: paths.locks,
      powerOff: powerOffBySsh(home),
    },
    backend: settings.backend ?? null,
  };
  const onNote = settings.onNote === undefined ? {} : { onNote: settings.onNote };
  return {
    paths,
    hypervisor: settings.hypervisor ?? createRouter(router),
    registry: new Registry({ paths, command, ...onNote }),
    events: new EventHub(),
    limits: createLimits(settings.concurrency),
    signal,
    home,
    cwd,
    command,
    variables,
    sshTimeoutSeconds: settings.sshTimeoutSeconds ?? null,
    stopGraceSeconds: settings.stopGraceSeconds ?? 30,
    pull: settings.pull ?? 'missing',
    warm: {
      cold: settings.cold ?? false,
      level: settings.warm ?? 'off',
      budgetBytes: settings.warmBudgetBytes ?? WARM_BUDGET_BYTES,
    },
  };
}
