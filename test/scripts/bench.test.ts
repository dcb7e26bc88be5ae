import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '../support/documentation.js';

/** What a few lines print that use the parts of the measurements. */
function evaluate(lines: string): unknown {
  const imports = ['measure', 'report', 'chart'].map(
    (name) => `import * as ${name} from ${JSON.stringify(join(ROOT, 'scripts', 'bench', 'lib', `${name}.mjs`))};`,
  );
  const program = `${imports.join('\n')}\n${lines}`;
  const json = execFileSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
  return JSON.parse(json);
}

test('npm run bench knows its groups, and says so where there is none of a name', () => {
  const bench = (...words: readonly string[]) =>
    spawnSync(process.execPath, [join(ROOT, 'scripts', 'bench.mjs'), ...words], { encoding: 'utf8' });
  const list = bench('--list').stdout;
  for (const name of ['start-up', 'up', 'readiness', 'parallel', 'provisioning', 'scale', 'images']) {
    expect(list).toMatch(new RegExp(`^${name}: \\S.*\\. \\S.*$`, 'm'));
  }
  expect(bench('nope')).toMatchObject({ status: 4, stderr: expect.stringContaining('There is no group nope') });
});

test('the subject and its reference take turns, and are compared by their medians', () => {
  const lines = `
    const turns = [];
    const times = { own: [9, 2, 4, 3], other: [9, 1, 1, 2] };
    const take = (name) => { turns.push(name); return times[name].shift(); };
    const row = await measure.compare('it', () => take('own'), {
      reference: { name: 'that', run: async () => take('other') }, bar: measure.atMost(2.9), rounds: 3,
    });
    console.log(JSON.stringify({ turns, row }));`;
  const turn = ['other', 'own'];
  expect(evaluate(lines)).toMatchObject({
    turns: [...turn, ...turn, ...turn, ...turn],
    row: {
      value: 3,
      reference: { name: 'that', value: 1 },
      ratio: 3,
      ratioSpread: [1.5, 4],
      bar: { limit: 2.9, met: false },
    },
  });
});

test.each([
  ['measure.atMostMore(50)', 1.5],
  ['measure.atMostValue(150, "150 ms")', 1.5],
  ['measure.atLeastSpeed(0.8)', 1.25],
])('the bar %s is a limit of the ratio', (bar, limit) => {
  const lines = `console.log(JSON.stringify(measure.row('it', { own: [125], others: [100], reference: 'that', bar: ${bar} }).bar));`;
  expect(evaluate(lines)).toMatchObject({ limit, met: true });
});

test('what is measured now stands in the results beside the groups that were measured before', () => {
  const lines = `
    import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
    import { tmpdir } from 'node:os';
    const folder = mkdtempSync(tmpdir() + '/vmctl-bench-test-');
    writeFileSync(folder + '/results.json', JSON.stringify(report.merged(folder + '/none', { a: 1, b: 2 })));
    console.log(JSON.stringify(report.merged(folder + '/results.json', { b: 3 })));
    rmSync(folder, { recursive: true });`;
  expect(evaluate(lines)).toEqual({ schemaVersion: 2, groups: { a: 1, b: 3 } });
});

test('the picture and the table have the figures of each row, however far they are apart', () => {
  const lines = `
    const row = (name, own) => measure.row(name, { own: [own], others: [100], reference: 'that', bar: measure.atMost(1.5) });
    const group = { title: 'T', about: 'a < b', host: 'h', rows: [row('near', 110), row('far', 4000), row('faster', 20)] };
    const near = { ...group, rows: group.rows.slice(0, 1) };
    console.log(JSON.stringify({ svg: chart.chart(group), near: chart.chart(near), table: report.table([group]) }));`;
  const output = JSON.stringify(evaluate(lines));
  expect(output).not.toMatch(/NaN|undefined|Infinity|width=\\"-/);
  for (const figure of ['1.10×', '40.00×', '0.20×', 'a &lt; b', 'at most 1.5 times, missed']) {
    expect(output).toContain(figure);
  }
  expect(output).toMatch(/far +4000 ms .*40\.00 .*MISSED/);
});
