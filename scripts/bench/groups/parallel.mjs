// Several small guests at once against the same guests one after another.
import { availableParallelism } from 'node:os';
import { compare } from '../lib/measure.mjs';
import { pocketProject } from '../lib/projects.mjs';

export const title = 'Parallel';
export const about =
  'Small guests that come up at the same time, against as many that come up one after another. What keeps a core busy alone cannot be faster than the cores allow.';
export const programs = ['qemu-system-x86_64', 'qemu-img'];

export async function run({ scratch, rounds, guestImage }) {
  const names = ['a', 'b', 'c', 'd'];
  const project = pocketProject(scratch, guestImage(), Object.fromEntries(names.map((name) => [name, ''])));
  const cores = availableParallelism();
  const timed = async (words) => {
    const begun = performance.now();
    for (const some of words) await project.up(some);
    const ms = performance.now() - begun;
    project.time('down', '--destroy');
    return ms;
  };
  const rows = [];
  try {
    for (const count of [1, 2, 4]) {
      const some = names.slice(0, count);
      const best = (Math.ceil(count / cores) / count).toFixed(2);
      rows.push(
        await compare(`${count} at once`, () => timed([[...some, '--parallel', String(count)]]), {
          reference: { name: `${count} one after another`, run: () => timed(some.map((name) => [name])) },
          rounds: rounds(3),
          warmUp: false,
          note: `${count} guests that each keep one of ${cores} cores busy cannot have less than ${best}`,
        }),
      );
    }
    return rows;
  } finally {
    project.dispose();
  }
}
