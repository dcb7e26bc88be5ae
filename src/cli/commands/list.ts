import { type Inspection, inspectAll } from '../../../tasks/inspect.js';
import type { Remark } from '../../../tasks/remarks.js';
import { lanOf, lanPlace } from '../../model/lan.js';
import type { Cli, CommandModule } from '../cli.js';
import { printJson, printNote, table } from '../report.js';
import type { TaskEnvironment } from '../../../tasks/context.js';
import { openReader, readerOf } from '../session.js';

export const command: CommandModule = {
  configure(program, cli) {
    program
      .option('-a, --all', 'also the VMs of programs, test runners and vmctl run', false)
      .option('--json', 'print JSON', false)
      .action((flags: ListFlags) => list(cli, flags));
  },
};

interface ListFlags {
  readonly all: boolean;
  readonly json: boolean;
}

async function list(cli: Cli, flags: ListFlags): Promise<void> {
  const env = openReader(cli, 'list');
  const rows = (await inspectAll(env)).map(toRow);
  const runs = flags.all ? await runsOf(cli, env) : [];
  if (flags.json) {
    printJson(cli, { vms: rows, ...(flags.all ? { runs } : {}) });
    return;
  }
  printTable(cli, rows);
  for (const { stateDirectory, state, owner, vms } of runs) {
    const whose = state === 'live' ? `of "${owner?.command}" (pid ${owner?.pid})` : RUN_WORDS[state];
    printNote(cli, `VMs ${whose}; to work with them: VMCTL_STATE=${stateDirectory}`);
    if (vms.length > 0) printTable(cli, vms);
  }
}

const RUN_WORDS = {
  kept: 'that were kept; to remove them: vmctl gc --kept',
  warm: 'that are kept for the next run; to remove them: vmctl gc --kept',
  dead: 'whose program is gone; to remove them: vmctl gc',
} as const;

async function runsOf(cli: Cli, env: TaskEnvironment) {
  const { baseOf, listRuns } = await import('../../lifetime/run.js');
  const base = await baseOf(env.paths);
  return Promise.all(
    (await listRuns(base)).map(async ({ id, paths, lease, state }) => ({
      id,
      state,
      stateDirectory: paths.root,
      owner: lease?.owner ?? null,
      project: lease?.project ?? null,
      vms: (await inspectAll(readerOf(cli, 'list', paths))).map(toRow),
    })),
  );
}

function printTable(cli: Cli, rows: readonly Row[]): void {
  const header = ['NAME', 'BACKEND', 'STATE', 'VCPUS', 'MEMORY', 'NETWORK', 'LAN', 'PID', 'SSH PORT'];
  const cells = rows.map((row) => [
    row.name,
    row.backend,
    row.state,
    text(row.vcpus),
    row.memoryMib === null ? '-' : `${row.memoryMib} MiB`,
    text(row.network),
    text(row.lan?.address ?? null),
    text(row.pid),
    sshText(row),
  ]);
  if (rows.length === 0) printNote(cli, 'there are no VMs; make some with: vmctl up');
  else cli.stdout.write(table(header, cells));
  for (const { name, problem, onPurpose } of rows) {
    for (const told of [problem, onPurpose]) if (told !== null) printNote(cli, `${name}: ${told}`);
  }
}

type Row = ReturnType<typeof toRow>;

function toRow(inspection: Inspection) {
  const { name, group, backend, project } = inspection.entry;
  const nothing = { onPurpose: null, powerCutAt: null, suspendedAt: null, unplugged: [], lan: null };
  const unknown = { ...nothing, vcpus: null, memoryMib: null, network: null, pid: null, sshHost: null, sshPort: null };
  if ('problem' in inspection) {
    return { name, group, backend, state: 'damaged', project, problem: inspection.problem, ...unknown };
  }
  const { observed, handle, powerCutAt, suspendedAt } = inspection;
  const told = (kind: Remark['kind']) =>
    inspection.remarks.flatMap((remark) => (remark.kind === kind ? [remarkText(remark)] : [])).join('; ') || null;
  const live = observed.state === 'stopped' ? null : observed;
  return {
    name,
    group,
    backend,
    state: observed.state,
    project,
    problem: told('problem'),
    /** What somebody did to it, in words. */
    onPurpose: told('on purpose'),
    powerCutAt,
    suspendedAt,
    unplugged: live?.unplugged ?? [],
    vcpus: handle.spec.vcpus,
    memoryMib: handle.spec.memoryMib,
    network: handle.spec.network.kind,
    lan: lanPlace(lanOf(handle.spec)),
    pid: live?.pid ?? null,
    sshHost: live?.ssh?.host ?? null,
    sshPort: live?.ssh?.port ?? null,
  };
}

function remarkText({ what, next, details }: Remark): string {
  const last = details?.split('\n').at(-1) ?? '';
  const told = what.endsWith(':') ? `${what} ${last}` : what;
  return next === null ? told : `${told}. ${next}`;
}

/** The port alone where it is one of this host's. */
function sshText({ sshHost, sshPort }: { readonly sshHost: string | null; readonly sshPort: number | null }): string {
  return sshHost === null || sshHost === '127.0.0.1' ? text(sshPort) : `${sshHost}:${sshPort}`;
}

function text(value: string | number | null): string {
  return value === null ? '-' : String(value);
}
