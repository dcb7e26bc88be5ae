import { join } from 'node:path';
import { identityFiles } from '../../../tasks/access.js';
import { type Inspection, inspectVm } from '../../../tasks/inspect.js';
import { readyStatus } from '../../../tasks/ready.js';
import { bytesText } from '../../../tasks/progress-text.js';
import { lanOf, lanPlace } from '../../model/lan.js';
import { VM_FILES } from '../../paths.js';
import type { Cli, CommandModule } from '../cli.js';
import { pairs, printJson } from '../report.js';
import { findEntry, openReader } from '../session.js';

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('<name>', 'the VM')
      .option('--json', 'print JSON', false)
      .action((name: string, flags: { readonly json: boolean }) => status(cli, name, flags.json));
  },
};

async function status(cli: Cli, name: string, json: boolean): Promise<void> {
  const env = openReader(cli, 'status');
  const inspection = await inspectVm(env, await findEntry(env, name));
  const facts = await gather(inspection, cli.home);
  if (json) printJson(cli, facts);
  else cli.stdout.write(asText(facts));
}

async function gather(inspection: Inspection, home: string) {
  const { entry } = inspection;
  const common = {
    name: entry.name,
    group: entry.group,
    backend: entry.backend,
    project: entry.project,
    directory: entry.directory,
  };
  if ('problem' in inspection) return { ...common, state: 'damaged', problem: inspection.problem };
  const { handle, observed, record, remarks, powerCutAt, suspendedAt } = inspection;
  const { spec, image } = handle;
  const live = observed.state === 'stopped' ? null : observed;
  return {
    ...common,
    state: observed.state,
    createdAt: handle.createdAt,
    vcpus: spec.vcpus,
    memoryMib: spec.memoryMib,
    diskBytes: spec.diskBytes ?? image.virtualBytes,
    image: image.path,
    network: spec.network.kind,
    mac: handle.mac,
    unplugged: live?.unplugged ?? [],
    powerCutAt,
    suspendedAt,
    lan: lanPlace(lanOf(spec)),
    pid: live?.pid ?? null,
    accelerator: live?.accelerator ?? null,
    forwards: live?.forwards ?? [],
    ssh: {
      host: live?.ssh?.host ?? null,
      port: live?.ssh?.port ?? null,
      user: spec.ssh.user,
      identityFiles: await identityFiles(handle, { home }),
      knownHosts: join(handle.directory, VM_FILES.knownHosts),
    },
    provisioning: record.provisioning,
    ready: readyStatus(spec, record),
    lastFailure: record.lastFailure,
    remarks,
  };
}

type Facts = Awaited<ReturnType<typeof gather>>;

function asText(facts: Facts): string {
  if ('problem' in facts) {
    return pairs([
      ['name', facts.name],
      ['state', facts.state],
      ['problem', facts.problem],
      ['directory', facts.directory],
    ]);
  }
  const { ssh, lastFailure, remarks } = facts;
  const address = ssh.port === null ? '-' : `${ssh.user}@${ssh.host}:${ssh.port}`;
  const forwards = facts.forwards.map(({ host, guest }) => `127.0.0.1:${host} to ${guest}`).join(', ');
  return pairs([
    ['name', facts.name],
    ['state', facts.accelerator === null ? facts.state : `${facts.state} (${facts.accelerator})`],
    ...remarks.flatMap(({ kind, what, next, details }) => [
      [kind, what] as const,
      ...(details?.split('\n') ?? []).map((line) => ['', line] as const),
      ...(next === null ? [] : [['next step', next] as const]),
    ]),
    ['provisioning', facts.provisioning],
    ...(facts.ready === null ? [] : readyLines(facts.ready)),
    ['backend', facts.backend],
    ['VMFile', facts.project ?? '-'],
    ['vCPUs', String(facts.vcpus)],
    ['memory', `${facts.memoryMib} MiB`],
    ['disk', bytesText(facts.diskBytes)],
    ['image', facts.image],
    ['network', facts.mac === null ? facts.network : `${facts.network}, ${facts.mac}`],
    ['LAN', facts.lan === null ? '-' : `${facts.lan.name}, ${facts.lan.address}, ${facts.lan.mac}`],
    ['PID', facts.pid === null ? '-' : String(facts.pid)],
    ['SSH', address],
    ['forwards', forwards === '' ? '-' : forwards],
    ['directory', facts.directory],
    ['created', facts.createdAt],
    ...(lastFailure === null
      ? []
      : ([['last failure', `${lastFailure.time}, ${lastFailure.step}: ${lastFailure.error.message}`]] as const)),
  ]);
}

function readyLines({ conditions, since }: NonNullable<Exclude<Facts, { problem: string }>['ready']>) {
  const when = since === null ? 'not seen to be since its last start' : `since ${since}`;
  return [['ready', when] as const, ...conditions.map((condition) => ['', condition] as const)];
}
