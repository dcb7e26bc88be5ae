/**
 * Twenty processes that do random things to ten VMs at once, some of which are killed. A model says what may come of it:
 * each VM's changes, in the order in which they were made, are a legal life, and at the end all agree about it.
 */
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FULL_RUN, Random, chosenSeed } from '../support/random.js';
import { Rig, type RunResult } from '../support/rig.js';
import { type Actor, bundleScript } from '../util/actor.js';

const PROCESSES = 20;
const LASTS_MS = FULL_RUN ? 120_000 : 12_000;
const VMS = Array.from({ length: 10 }, (_, index) => `vm-${index}`);

/** What a change makes of a VM; a change that is not here is not legal. */
const LIFE: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  none: { prepare: 'stopped' },
  stopped: { start: 'running', destroy: 'none' },
  running: { stop: 'stopped', suspend: 'suspended', destroy: 'none' },
  suspended: { resume: 'running', stop: 'stopped', destroy: 'none' },
};

/** Commands, with what they may fail with: the VM was not there, or not in that state, when their turn came. */
const COMMANDS: readonly {
  readonly words: readonly string[];
  readonly names: 'none' | 'some';
  readonly fails?: RegExp;
}[] = [
  { words: ['up'], names: 'some' },
  { words: ['up'], names: 'some' },
  { words: ['up'], names: 'none' },
  { words: ['reload'], names: 'some' },
  { words: ['down'], names: 'some', fails: /no VM of \S+ is called/ },
  { words: ['down', '--destroy'], names: 'some', fails: /no VM of \S+ is called/ },
  { words: ['list', '--json'], names: 'none' },
  { words: ['gc'], names: 'none' },
  { words: ['up', '--dry-run'], names: 'none' },
  { words: ['start'], names: 'some', fails: /there is no VM/ },
  { words: ['stop'], names: 'some', fails: /there is no VM/ },
  { words: ['destroy', '--yes'], names: 'some', fails: /there is no VM/ },
  { words: ['suspend'], names: 'some', fails: /there is no VM|cannot suspend VM \S+: it is stopped/ },
  { words: ['resume'], names: 'some', fails: /there is no VM|cannot resume VM \S+: it is stopped/ },
];

interface Outcome extends RunResult {
  readonly words: readonly string[];
}

/** What is wrong with how a command ended; null for nothing. */
function wrong({ words, exitCode, stdout, stderr }: Outcome, fails: RegExp | undefined): string | null {
  const errors = stderr.split('\n').filter((line) => line.startsWith('error: '));
  const illegal = errors.filter((line) => fails?.test(line) !== true);
  if (exitCode === 0 ? errors.length === 0 : errors.length > 0 && illegal.length === 0) return null;
  return `vmctl ${words.join(' ')} (exit code ${exitCode}): ${illegal.length === 0 ? stderr + stdout : illegal.join('\n')}`;
}

interface Change {
  readonly operation: string;
  readonly name: string;
  readonly pid: number;
}

/** The states in which a VM may be after all that was done to it. What a process was killed over may be done or not. */
function statesAfter(name: string, changes: readonly Change[], killed: ReadonlySet<number>): readonly string[] {
  const own = changes.filter((change) => change.name === name);
  let states: readonly string[] = ['none'];
  own.forEach(({ operation, pid }, index) => {
    const isInDoubt = killed.has(pid) && !own.slice(index + 1).some((later) => later.pid === pid);
    const next = states.flatMap((state) => LIFE[state]?.[operation] ?? []);
    if (next.length === 0) {
      const line = own.slice(Math.max(0, index - 6), index + 1).map((change) => `${change.operation} by ${change.pid}`);
      throw new Error(`${name} was ${states.join(' or ')} when it was made to ${operation}: …, ${line.join(', ')}`);
    }
    states = [...new Set(isInDoubt ? [...states, ...next] : next)];
  });
  return states;
}

test('20 processes and 10 VMs: every outcome is legal, nothing is lost, and nobody waits for ever', {
  timeout: LASTS_MS + 120_000,
}, async () => {
  const seed = chosenSeed(Date.now() % 1_000_000);
  const random = new Random(seed);
  await using rig = await Rig.create();
  await rig.declare(
    Object.fromEntries(VMS.map((name, index) => [name, index % 3 === 2 ? `depends-on "vm-${index - 1}"` : ''])),
  );
  const journal = join(rig.root, 'journal');
  await using script = await bundleScript('commander');
  const problems: string[] = [];
  const killed = new Set<number>();
  const working = new Set<Actor>();
  let commands = 0;
  const actors = await Promise.all(Array.from({ length: PROCESSES }, () => script.start()));
  const end = performance.now() + LASTS_MS;

  /** Somebody who is in the middle of something. */
  const killOne = async (others: readonly Actor[]): Promise<void> => {
    const victim = random.pick(others);
    killed.add(victim.pid);
    await victim.kill();
  };
  const work = async (first: Actor): Promise<void> => {
    let actor = first;
    while (performance.now() < end) {
      const { words, names, fails } = random.pick(COMMANDS);
      const line = names === 'none' ? words : [...words, ...new Set([random.pick(VMS), random.pick(VMS)])];
      working.add(actor);
      const result: unknown = await actor.ask('run', rig.root, journal, line).catch((error: unknown) => error);
      working.delete(actor);
      commands += 1;
      if (commands % 50 === 0 && working.size > 0) await killOne([...working]);
      if (killed.has(actor.pid)) actor = await script.start();
      else if (isResult(result))
        problems.push(...[wrong({ ...result, words: line }, fails)].filter((text) => text !== null));
      else throw new Error(`vmctl ${line.join(' ')} did not end: ${String(result)}`);
    }
  };
  await Promise.all(actors.map(work));

  const context = { seed, problems };
  expect(context).toEqual({ seed, problems: [] });
  expect(commands).toBeGreaterThan(PROCESSES);
  const changes = (await readFile(journal, 'utf8'))
    .trim()
    .split('\n')
    .map((line): Change => {
      const [operation = '', name = '', pid] = line.split(' ');
      return { operation, name, pid: Number(pid) };
    });
  const model = Object.fromEntries(VMS.map((name) => [name, statesAfter(name, changes, killed)]));
  const found = await rig.states();
  for (const name of VMS)
    expect({ seed, name, may: model[name] }).toMatchObject({ may: expect.arrayContaining([found[name] ?? 'none']) });
  expect(await rig.vmctl(['gc'])).toMatchObject({ exitCode: 0 });
  expect(await rig.directories()).toEqual(Object.keys(found).toSorted());
  expect(Object.keys((await rig.registry()).vms).toSorted()).toEqual(Object.keys(found).toSorted());
  expect(await readdir(rig.paths.locks)).toEqual([]);

  expect(await rig.vmctl(['down', '--destroy'])).toMatchObject({ exitCode: 0 });
  expect(await rig.directories()).toEqual([]);
  expect(await rig.states()).toEqual({});
  expect(await readdir(rig.paths.locks)).toEqual([]);
});

function isResult(value: unknown): value is RunResult {
  return typeof value === 'object' && value !== null && 'exitCode' in value;
}
