// What a person waits for before anything happens.
import { join } from 'node:path';
import { NO_BAR, atMost, atMostMore, compare } from '../lib/measure.mjs';
import { noopProject, program, timeNode } from '../lib/projects.mjs';

export const title = 'Start-up';
export const about = 'What a person waits for before anything happens, against a Node.js that does nothing.';

export async function run({ scratch, rounds }) {
  const node = { name: 'node -e 0', run: () => timeNode(['-e', '0']) };
  const projects = [1, 100, 1000].map((count) => ({
    count,
    project: noopProject(join(scratch, String(count)), count),
  }));
  const [{ project: small }] = projects;
  const rows = [];
  const add = async (name, subject, options) =>
    rows.push(await compare(name, subject, { reference: node, rounds: rounds(21), ...options }));
  try {
    for (const { project } of projects) project.time('up');
    await add('vmctl --version', () => timeNode([program, '--version']), { bar: atMost(1.5) });
    await add('vmctl --help', () => timeNode([program, '--help']), { bar: NO_BAR });
    for (const { count, project } of projects) {
      const bar = count === 1000 ? NO_BAR : atMostMore(100);
      await add(`vmctl list, ${plural(count)}`, () => project.time('list'), {
        bar,
        rounds: rounds(count === 1000 ? 7 : 21),
      });
    }
    for (const { count, project } of projects) {
      await add(
        `vmctl up, ${count === 1 ? '1 VM that runs' : `${count} VMs that run`} already`,
        () => project.time('up'),
        {
          rounds: rounds(count === 1 ? 21 : count === 100 ? 7 : 3),
        },
      );
    }
    const [, , { project: huge }] = projects;
    await add('vmctl validate, 1000 VMs', () => huge.time('validate'), {
      reference: { name: 'validate, 1 VM', run: () => small.time('validate') },
      bar: atMostMore(1000),
    });
    return rows;
  } finally {
    for (const { project } of projects) project.dispose();
  }
}

function plural(count) {
  return count === 1 ? '1 VM' : `${count} VMs`;
}
