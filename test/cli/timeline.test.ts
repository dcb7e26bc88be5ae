import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { timelineOf } from '../../src/cli/timeline/picture.js';
import { VmctlError } from '../../src/errors.js';
import type { Step, VmEvent, VmEventBody } from '../../src/model/event.js';
import { Rig } from '../support/rig.js';

const BEGUN = Date.UTC(2026, 0, 2, 3, 4, 5);

/** Seconds after the beginning. */
function at(seconds: number, vm: string | null, step: Step, body: VmEventBody): VmEvent {
  return { time: BEGUN + seconds * 1000, vm, step, ...body };
}

const done = (summary = ''): VmEventBody => ({ type: 'done', summary, durationMs: 0 });
const started: VmEventBody = { type: 'started' };
const waitingFor = (...vms: readonly string[]): VmEventBody => ({
  type: 'status',
  text: `waiting for ${vms.join(', ')}`,
  activity: { kind: 'waiting', on: 'vms', vms },
});
const boots: VmEventBody = { type: 'status', text: 'waiting for SSH', activity: { kind: 'waiting', on: 'guest' } };
const provisionStep = (number: number, title: string): VmEventBody => ({
  type: 'status',
  text: `step ${number}`,
  activity: { kind: 'provision-step', number, total: 2, title },
});

/** The db is up after 10 s; the web, which waits for it, after 20 s. */
const TWO_VMS: readonly VmEvent[] = [
  at(0, 'db', 'resolve', started),
  at(0, 'web', 'start', started),
  at(0, 'web', 'start', waitingFor('db')),
  at(1, 'db', 'resolve', { type: 'progress', bytes: 0, totalBytes: 64 * 1024 ** 2 }),
  at(2, 'db', 'resolve', { type: 'progress', bytes: 32 * 1024 ** 2, totalBytes: 64 * 1024 ** 2 }),
  at(3, 'db', 'resolve', { type: 'progress', bytes: 64 * 1024 ** 2, totalBytes: 64 * 1024 ** 2 }),
  at(3, 'db', 'resolve', done('db.qcow2')),
  at(3, 'db', 'provision', started),
  at(3, 'db', 'provision', boots),
  at(5, 'db', 'provision', provisionStep(1, 'shell initdb')),
  at(8, 'db', 'provision', provisionStep(2, 'shell load')),
  at(10, 'db', 'provision', done('2 steps run')),
  at(10, 'web', 'start', { type: 'status', text: 'starting' }),
  at(11, 'web', 'start', done()),
  at(11, 'web', 'provision', started),
  at(11, 'web', 'provision', boots),
  at(20, 'web', 'provision', done()),
];

/** Throws unless every tag is closed where it has to be, and no text has a character that ends it. */
function assertWellFormed(markup: string): void {
  const open: string[] = [];
  const mistakes: string[] = [];
  for (const [tag, closing, name = '', selfClosing] of markup.matchAll(
    /<(\/?)([a-z]+)(?:\s[\w:-]+="[^"<]*")*\s*(\/?)>/gi,
  )) {
    if (closing === '/' && open.pop() !== name) mistakes.push(tag);
    if (closing !== '/' && selfClosing !== '/') open.push(name);
  }
  expect({ open, mistakes }).toEqual({ open: [], mistakes: [] });
  const texts = markup
    .replaceAll(/<\/?[a-z]+(?:\s[\w:-]+="[^"<]*")*\s*\/?>/gi, '')
    .replaceAll(/&(?:amp|lt|gt|quot);/g, '');
  expect(texts).not.toMatch(/[<&]/);
}

/** The rectangle of the bar whose tooltip begins so. */
function bar(svg: string, tip: string): { readonly kind: string; readonly from: number; readonly to: number } {
  const from = svg.indexOf(`<title>${tip}`);
  expect([tip, from]).not.toEqual([tip, -1]);
  const rectangles = svg
    .slice(from, svg.indexOf('</g>', from))
    .matchAll(/<rect class="(?!page)(\w+)" x="([\d.]+)"[^>]* width="([\d.]+)"/g);
  const [, kind = '', x, width] = [...rectangles][0] ?? [];
  return { kind, from: Number(x), to: Number(x) + Number(width) };
}

describe('the picture', () => {
  const svg = timelineOf(TWO_VMS, { title: 'vmctl up' });

  test('is well-formed and says what it shows', () => {
    assertWellFormed(svg);
    expect(svg).toContain('<title>vmctl up: 2 VMs in 20.0 s: 2 up</title>');
    expect(svg).toContain('2026-01-02 03:04:05 UTC');
    expect(svg).toContain('prefers-color-scheme:dark');
  });

  test('has a bar for each stage and each provision step, as long as it took', () => {
    const [boot, first, second] = [
      'provision: the guest boots',
      'provision: 1 shell initdb, 3.0 s',
      'provision: 2 shell load, 2.0 s',
    ].map((tip) => bar(svg, tip));
    expect([boot?.kind, first?.kind, second?.kind]).toEqual(['guest', 'step', 'step']);
    // Two steps are told apart by a gap of one pixel.
    expect(first?.from).toBeCloseTo(boot?.to ?? 0, 0);
    expect(((first?.to ?? 0) + 1 - (first?.from ?? 0)) / ((second?.to ?? 0) + 1 - (second?.from ?? 0))).toBeCloseTo(
      3 / 2,
      2,
    );
  });

  test('tells how much was downloaded and how fast, and draws the rate', () => {
    expect(svg).toContain('64 MiB, 32 MiB/s');
    expect(svg).toMatch(/<path class="rate" d="M/);
    expect(
      timelineOf(
        TWO_VMS.filter(({ type }) => type !== 'progress'),
        { title: 'vmctl up' },
      ),
    ).not.toContain('class="rate"');
  });

  test('shows what waited for what', () => {
    const waited = bar(svg, 'start: waits for db, 10.0 s');
    expect(waited.kind).toBe('waiting');
    expect(svg).toContain('<title>web waited for db</title>');
    // The line begins where the db was up, and ends where the web went on.
    const [, x, y] =
      /<title>web waited for db<\/title><path class="link" d="M([\d.]+) [\d.]+C.*? ([\d.]+) [\d.]+"/.exec(svg) ?? [];
    expect(Number(x)).toBeCloseTo(waited.to, 0);
    expect(Number(y)).toBeCloseTo(waited.to, 0);
  });

  test('shows which guest made room for one that waited to boot', () => {
    const place: VmEventBody = { type: 'status', text: 'waiting', activity: { kind: 'waiting', on: 'boot-place' } };
    const events = [
      at(0, 'a', 'provision', started),
      at(0, 'a', 'provision', boots),
      at(0, 'b', 'start', started),
      at(0, 'b', 'start', place),
      at(5, 'a', 'provision', provisionStep(1, 'shell true')),
      at(5, 'b', 'start', { type: 'status', text: 'starting' }),
      at(6, 'b', 'start', done()),
      at(9, 'a', 'provision', done()),
    ];
    expect(timelineOf(events, { title: 'vmctl up' })).toContain('<title>b waited until a had booted</title>');
  });

  test('marks what failed, in the step that did, and says why', () => {
    const error = new VmctlError(
      'PROVISION_FAILED',
      'VM "db": provision step 2 of 2 failed <with> code 7 & more',
    ).toJSON();
    const events = [
      ...TWO_VMS.filter(({ vm, time }) => vm === 'db' && time < BEGUN + 10_000),
      at(9, 'db', 'provision', { type: 'failed', error }),
    ];
    const failed = timelineOf(events, { title: 'vmctl up' });
    assertWellFormed(failed);
    expect(bar(failed, 'provision: 2 shell load').kind).toBe('failed');
    expect(bar(failed, 'provision: 1 shell initdb').kind).toBe('step');
    expect(failed).toContain('failed, 9.0 s');
    expect(failed).toContain('provision step 2 of 2 failed &lt;with&gt; code 7 &amp; more');
    expect(failed.match(/class="cross"/g)).toHaveLength(2);
  });

  test('stays readable with names and texts of any kind and length', () => {
    const events = [
      at(0, '<b>"&\u0007', 'provision', started),
      at(1, '<b>"&\u0007', 'provision', provisionStep(1, `shell ${'<x>&'.repeat(500)}`)),
      at(2, 'n'.repeat(63), 'provision', started),
    ];
    const hostile = timelineOf(events, { title: 'vmctl up' });
    assertWellFormed(hostile);
    expect(hostile).toMatch(/>n{10,40}…</);
  });

  test('of nothing, and of a clock that is set back, is a picture too', () => {
    assertWellFormed(timelineOf([], { title: 'vmctl up' }));
    const back = timelineOf([at(100, 'a', 'start', started), at(40, 'a', 'start', done())], { title: 'vmctl up' });
    expect(back).not.toMatch(/width="-|NaN|Infinity/);
  });

  test('of a thousand VMs has a row for each, and no more than a screen of failures', () => {
    const names = Array.from({ length: 1000 }, (_, i) => `vm-${i}`);
    const error = new VmctlError('QEMU_START', 'no power').toJSON();
    const events = names.flatMap((name) => [
      at(0, name, 'start', started),
      at(1, name, 'start', { type: 'failed', error }),
    ]);
    const large = timelineOf(events, { title: 'vmctl up' });
    expect(names.filter((name) => !large.includes(`>${name}</text>`))).toEqual([]);
    expect(large).toContain('and 980 more failed');
  });
});

describe('up --timeline', () => {
  test('draws the VMs, with what waited for what, into the file', async () => {
    await using rig = await Rig.create();
    await rig.declare({ web: 'ssh\ndepends-on "db"\nprovision "shell" { inline "make site" }', db: '' });
    const { exitCode, stderr } = await rig.vmctl(['up', '--timeline', 'up.svg']);
    expect({ exitCode, told: stderr.includes('note: the timeline is in up.svg\n') }).toEqual({
      exitCode: 0,
      told: true,
    });
    const svg = await readFile(join(rig.project, 'up.svg'), 'utf8');
    assertWellFormed(svg);
    expect(svg).toContain('2 up</title>');
    expect(svg).toContain('<title>provision: 1 shell make site');
    expect(svg).toContain('<title>web waited for db</title>');
  });

  test('draws a failure too, and the exit code is that of the failure', async () => {
    await using rig = await Rig.create({
      before: async (operation, name) => {
        if (operation === 'start' && name === 'db') throw new VmctlError('QEMU_START', 'no power');
      },
    });
    await rig.declare({ web: '', db: '' });
    expect((await rig.vmctl(['up', '--timeline', 'up.svg'])).exitCode).toBe(1);
    const svg = await readFile(join(rig.project, 'up.svg'), 'utf8');
    expect(svg).toContain('1 up, 1 failed</title>');
    expect(svg).toContain('no power');
  });

  test('draws an interruption too', async () => {
    const interrupt = new AbortController();
    await using rig = await Rig.create({
      before: async (operation) => {
        if (operation === 'start') interrupt.abort();
      },
    });
    await rig.declare({ web: '' });
    expect((await rig.vmctl(['up', '--timeline', 'up.svg'], { signal: interrupt.signal })).exitCode).toBe(130);
    expect(await readFile(join(rig.project, 'up.svg'), 'utf8')).toContain('1 interrupted</title>');
  });

  test('draws what reload does, and makes a page where that is asked for', async () => {
    await using rig = await Rig.create();
    await rig.declare({ web: '' });
    await rig.vmctl(['up']);
    expect((await rig.vmctl(['reload', '--timeline', 'reload.html'])).exitCode).toBe(0);
    const page = await readFile(join(rig.project, 'reload.html'), 'utf8');
    expect(page).toMatch(/^<!doctype html>\n<html lang="en">[\s\S]*<svg [\s\S]*<\/svg>\n<\/html>\n$/);
    expect(page).toContain('<title>destroy: ');
  });

  test.each([
    [
      'nowhere/up.svg',
      /cannot write the timeline .*nowhere\/up\.svg: the folder .*nowhere does not exist\nhint: Create it with: mkdir -p /,
    ],
    ['folder.svg', /cannot write the timeline .*folder\.svg: it is a folder/],
    ['file/up.svg', /cannot write the timeline .*file\/up\.svg: /],
  ])('refuses %s before anything starts', async (file, expected) => {
    await using rig = await Rig.create();
    await rig.declare({ web: '' });
    await rig.write('folder.svg/x', '');
    await rig.write('file', '');
    const { exitCode, stderr } = await rig.vmctl(['up', '--timeline', file]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 1, stderr: expect.stringMatching(expected) });
    expect(await rig.directories()).toEqual([]);
  });

  test.each([
    [['--timeline', 'up.png'], 'Its name must end in .svg or .html.'],
    [['--timeline', 'up.svg', '--dry-run'], 'with --dry-run nothing does'],
  ])('refuses %j as wrong usage', async (words, expected) => {
    await using rig = await Rig.create();
    await rig.declare({ web: '' });
    const { exitCode, stderr } = await rig.vmctl(['up', ...words]);
    expect({ exitCode, told: stderr.includes(expected) }).toEqual({ exitCode: 2, told: true });
  });

  test('leaves an older picture as it is while it runs', async () => {
    const path: { of: string } = { of: '' };
    let seen = '';
    await using rig = await Rig.create({
      before: async (operation) => {
        if (operation === 'start') seen = await readFile(path.of, 'utf8');
      },
    });
    await rig.declare({ web: '' });
    path.of = join(rig.project, 'up.svg');
    await writeFile(path.of, 'older');
    await rig.vmctl(['up', '--timeline', 'up.svg']);
    expect(seen).toBe('older');
    expect(await readFile(path.of, 'utf8')).toContain('<svg ');
  });
});
