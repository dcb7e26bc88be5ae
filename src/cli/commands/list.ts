import { type Inspection, inspectAll } from '../../../tasks/inspect.js';
import type { Cli, CommandModule } from '../cli.js';
import { printJson, printNote, table } from '../report.js';
import { openReader } from '../session.js';

export const command: CommandModule = {
  configure(program, cli) {
    program.option('--json', 'print JSON', false).action((flags: { readonly json: boolean }) => list(cli, flags.json));
  },
};

async function list(cli: Cli, json: boolean): Promise<void> {
  const env = openReader(cli, 'list');
  const rows = (await inspectAll(env)).map(toRow);
  if (json) {
    printJson(cli, { vms: rows });
    return;
  }
  const header = ['NAME', 'BACKEND', 'STATE', 'VCPUS', 'MEMORY', 'NETWORK', 'PID', 'SSH PORT'];
  const cells = rows.map((row) => [
    row.name,
    row.backend,
    row.state,
    text(row.vcpus),
    row.memoryMib === null ? '-' : `${row.memoryMib} MiB`,
    text(row.network),
    text(row.pid),
    sshText(row),
  ]);
  if (rows.length === 0) printNote(cli, 'there are no VMs; make some with: vmctl up');
  else cli.stdout.write(table(header, cells));
  for (const { name, problem } of rows) if (problem !== null) printNote(cli, `${name}: ${problem}`);
}

function toRow(inspection: Inspection) {
  const { name, backend, project } = inspection.entry;
  const unknown = { vcpus: null, memoryMib: null, network: null, pid: null, sshHost: null, sshPort: null };
  if ('problem' in inspection) {
    return { name, backend, state: 'damaged', project, problem: inspection.problem, ...unknown };
  }
  const { observed, handle } = inspection;
  const live = observed.state === 'stopped' ? null : observed;
  return {
    name,
    backend,
    state: observed.state,
    project,
    problem: null,
    vcpus: handle.spec.vcpus,
    memoryMib: handle.spec.memoryMib,
    network: handle.spec.network.kind,
    pid: live?.pid ?? null,
    sshHost: live?.ssh?.host ?? null,
    sshPort: live?.ssh?.port ?? null,
  };
}

/** The port alone where it is one of this host's. */
function sshText({ sshHost, sshPort }: { readonly sshHost: string | null; readonly sshPort: number | null }): string {
  return sshHost === null || sshHost === '127.0.0.1' ? text(sshPort) : `${sshHost}:${sshPort}`;
}

function text(value: string | number | null): string {
  return value === null ? '-' : String(value);
}
