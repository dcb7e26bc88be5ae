/** `up --dry-run`: the plan, for people or as JSON. */
import { plan } from '../../tasks/plan.js';
import { changeText } from '../../tasks/up-plan.js';
import type { WarmOutlook } from '../model/warm.js';
import type { PlannedVm, UnplannedVm, UpAction } from '../model/plan.js';
import { type BringUpFlags, openProjectSession } from './bring-up.js';
import type { Cli } from './cli.js';
import { EXIT, exitCodeOfAll } from './exit-code.js';
import { readProject } from './project.js';
import { selectWithDependencies } from '../../tasks/select-specs.js';
import { printError, printJson } from './report.js';
import { type Painter, painter, wantsColor } from './style.js';

/** Prints on stdout what `up` would do. A VM that it would fail on sets the exit code 1. */
export async function showPlan(cli: Cli, names: readonly string[], flags: BringUpFlags): Promise<void> {
  const { env, settings } = await openProjectSession(cli, 'up --dry-run', flags);
  const project = await readProject(cli, settings);
  const { specs, errors } = selectWithDependencies(project.specs, names);
  const vms = await plan(env, { specs, provision: flags.provision });
  if (flags.json) printJson(cli, { file: project.source.path, vms });
  else {
    const paint = painter(wantsColor(cli.stdout, cli.variables));
    cli.stdout.write(vms.map((vm) => planText(vm, paint, settings.bootFirst ?? false)).join(''));
  }
  for (const error of errors) printError(cli, error);
  cli.exitCode = errors.length > 0 ? exitCodeOfAll(errors) : EXIT.done;
  if (vms.some((vm) => 'error' in vm)) cli.exitCode = EXIT.failed;
}

const ACTIONS: Readonly<Record<UpAction, string>> = {
  create: 'create, start and provision',
  recreate: 'destroy, then create, start and provision',
  start: 'start and provision',
  resume: 'resume',
  provision: 'provision',
  none: 'nothing to do',
};

function planText(vm: PlannedVm | UnplannedVm, paint: Painter, bootFirst: boolean): string {
  if ('error' in vm) {
    const { message, hint } = vm.error;
    const next = hint === null ? '' : `    ${paint('cyan', 'hint:')} ${hint}\n`;
    return `${paint('bold', vm.name)}: ${paint('red', `cannot come up: ${message}`)}\n${next}`;
  }
  const { name, action, reason, waitsFor, ready, changes, warm, steps } = vm;
  const head = `${paint('bold', name)}: ${paint(action === 'none' ? 'dim' : 'green', ACTIONS[action])}, because ${reason}`;
  const lines = [
    ...(waitsFor.length === 0 ? [] : [`${bootFirst ? 'is provisioned after' : 'waits for'} ${waitsFor.join(', ')}`]),
    ...(warm === null ? [] : warmText(warm)),
    ...changes.map((change) => paint('yellow', `${changeText(change)}; to apply that: vmctl reload ${name}`)),
    ...(action === 'none' ? [] : steps).map(
      (step) =>
        `${step.runs ? 'run ' : 'skip'} step ${step.number}/${steps.length}: ${step.title} ${paint('dim', `(${step.reason})`)}`,
    ),
    ...(ready.length === 0 ? [] : [`is ready by ${ready.join(', ')}`]),
  ];
  return `${[head, ...lines.map((line) => `    ${line}`)].join('\n')}\n`;
}

/** Nothing where nobody wants it. */
function warmText({ level, less, hit, reason }: WarmOutlook): readonly string[] {
  if (hit) return [`starts from its frozen ${level === 'memory' ? 'memory and disk' : 'disk'}, ${reason}`];
  return level === 'off'
    ? []
    : [`starts cold: ${reason}`, ...(less === null ? [] : [`only its disk is frozen: ${less}`])];
}
