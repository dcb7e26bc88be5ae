/** The fake propolis-server, held against what is known of the real one: `test/fixtures/propolis/http-cases.json`. */
import { readFileSync } from 'node:fs';
import { request as send } from 'node:http';
import { text } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { ConsoleHistory } from '../../support/propolis-history.js';
import { FakePropolis } from '../../support/propolis-server.js';
import type { State } from '../../support/propolis-instance.js';

type Given = 'nothing' | 'made' | 'starting' | 'running' | 'stopping' | 'ended' | 'printed';

interface Case {
  readonly name: string;
  readonly given: Given;
  readonly request: {
    readonly method: string;
    readonly path: string;
    readonly version: string | null;
    readonly body?: string;
    /** Components that differ from those of `ensure-request.json`; null for one that is left out. */
    readonly ensure?: Readonly<Record<string, unknown>>;
  };
  /** What happens while the request waits. */
  readonly meanwhile?: 'stop';
  readonly response: {
    readonly status: number;
    readonly refusal?: unknown;
    readonly state?: string;
    readonly body?: unknown;
  };
}

const fixture = (name: string) =>
  JSON.parse(readFileSync(new URL(`../../fixtures/propolis/${name}`, import.meta.url), 'utf8'));
const { cases }: { readonly cases: readonly Case[] } = fixture('http-cases.json');

function ensureBody(changes: Readonly<Record<string, unknown>> = {}): string {
  const body = fixture('ensure-request.json');
  const { spec } = body.init.value;
  const components = Object.entries({ ...spec.components, ...changes }).filter(([, one]) => one !== null);
  spec.components = Object.fromEntries(components);
  return JSON.stringify(body);
}

interface Ask {
  readonly method: string;
  readonly path: string;
  readonly version: string | null;
  readonly body?: string | undefined;
}

/** With a body on a GET, which `fetch` does not do. */
function ask(fake: FakePropolis, { method, path, version, body }: Ask): Promise<{ status: number; body: unknown }> {
  return new Promise((resolve, reject) => {
    const headers = {
      'content-type': 'application/json',
      ...(version === null ? {} : { 'api-version': version }),
      ...(body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }),
    };
    const request = send(`http://${fake.address}${path}`, { method, headers }, (response) => {
      text(response).then(
        (answer) => resolve({ status: response.statusCode ?? 0, body: answer === '' ? null : JSON.parse(answer) }),
        reject,
      );
    });
    request.on('error', reject);
    request.end(body);
  });
}

const put = (fake: FakePropolis, path: string, body: string) =>
  ask(fake, { method: 'PUT', path, version: '1.0.0', body });

const HOLDS: Partial<Record<Given, readonly State[]>> = { starting: ['Running'], stopping: ['Destroyed'] };

async function reach(given: Given): Promise<FakePropolis> {
  const fake = await FakePropolis.start({ holds: HOLDS[given] ?? [] });
  if (given === 'nothing') return fake;
  expect((await put(fake, '/instance', ensureBody())).status).toBe(201);
  if (given === 'printed') fake.print('Hello world\n');
  if (given === 'made' || given === 'printed') return fake;
  expect((await put(fake, '/instance/state', '"Run"')).status).toBe(204);
  await fake.settle(given === 'starting' ? 'Starting' : 'Running');
  if (given === 'starting' || given === 'running') return fake;
  expect((await put(fake, '/instance/state', '"Stop"')).status).toBe(204);
  await fake.settle(given === 'stopping' ? 'Stopped' : 'Destroyed');
  return fake;
}

test.each(cases)(
  'the fake server answers as the real one: $name ($given)',
  async ({ given, request, meanwhile, response }) => {
    await using fake = await reach(given);
    const body = request.ensure === undefined ? request.body : ensureBody(request.ensure);
    const asked = ask(fake, { ...request, body });
    if (meanwhile === 'stop') await put(fake, '/instance/state', '"Stop"');
    expect(await asked).toEqual({ status: response.status, body: expectedBody(response, meanwhile !== undefined) });
  },
);

const ANY_ID: unknown = expect.stringMatching(/^[0-9a-f-]{36}$/);

function expectedBody({ refusal, state, body }: Case['response'], late: boolean): unknown {
  if (refusal !== undefined) return { request_id: ANY_ID, ...Object(refusal) };
  if (state !== undefined) return { instance: { properties: fixture('ensure-request.json').properties, state } };
  if (!late) return body;
  // Who waits may be told of a later state than the next one.
  const states = expect.stringMatching(/^(?:Stopping|Stopped|Destroyed)$/);
  return { ...Object(body), gen: expect.any(Number), state: states };
}

/** Watches until the state is reached, and gives what was seen on the way. */
async function watch(fake: FakePropolis, from: number, until: string): Promise<readonly (readonly [number, string])[]> {
  const seen: [number, string][] = [];
  for (let gen = from; ; ) {
    const { body } = await ask(fake, {
      method: 'GET',
      path: '/instance/state-monitor',
      version: '1.0.0',
      body: JSON.stringify({ gen }),
    });
    const { gen: now, state }: { gen: number; state: string } = Object(body);
    seen.push([now, state]);
    if (state === until) return seen;
    gen = now + 1;
  }
}

test('the fake server goes through the states that the real one does, and may be seen to skip some', async () => {
  await using fake = await reach('made');
  expect(await watch(fake, 0, 'Creating')).toEqual([[1, 'Creating']]);
  await put(fake, '/instance/state', '"Run"');
  expect((await watch(fake, 2, 'Running')).at(-1)).toEqual([3, 'Running']);
  await put(fake, '/instance/state', '"Reboot"');
  expect((await watch(fake, 5, 'Running')).at(-1)).toEqual([5, 'Running']);
  await put(fake, '/instance/state', '"Stop"');
  expect((await watch(fake, 6, 'Destroyed')).at(-1)).toEqual([8, 'Destroyed']);
});

test('the fake server ends a VM that is only just starting', async () => {
  await using fake = await reach('starting');
  await put(fake, '/instance/state', '"Stop"');
  expect((await watch(fake, 3, 'Destroyed')).at(-1)).toEqual([4, 'Destroyed']);
});

test('the fake server fails a VM whose start fails, and makes another after that', async () => {
  await using fake = await FakePropolis.start({ startFails: true });
  await put(fake, '/instance', ensureBody());
  await put(fake, '/instance/state', '"Run"');
  await fake.settle('Failed');
  expect((await put(fake, '/instance/state', '"Run"')).status).toBe(424);
  expect((await put(fake, '/instance', ensureBody())).status).toBe(201);
});

test('the fake server refuses a body of more than a mebibyte', async () => {
  await using fake = await reach('nothing');
  const answer = await put(fake, '/instance', ' '.repeat(1_048_577));
  expect(answer).toMatchObject({
    status: 400,
    body: { message: 'request body exceeded maximum size of 1048576 bytes' },
  });
});

// By the rules of `serial/history_buffer.rs` (github.com/oxidecomputer/propolis): the first bytes are those that fell out
// of the last ones while there was room for them.
test('the fake server remembers the first bytes and the last ones', () => {
  const history = new ConsoleHistory(8);
  const print = (words: string) => words.split('').forEach((letter) => history.consume(Buffer.from(letter)));
  const read = (offset: Parameters<typeof history.read>[0], maxBytes?: number) => {
    const part = history.read(offset, maxBytes);
    return 'refusal' in part ? part.refusal : [part.bytes.toString(), part.end];
  };
  expect(read({ fromStart: 0 })).toEqual(['', 0]);
  print('abcdefghij');
  expect(read({ fromStart: 0 }, 4)).toEqual(['abcd', 4]);
  expect(read({ fromStart: 3 })).toEqual(['defghij', 10]);
  expect(read({ fromStart: 99 })).toEqual(['', 10]);
  expect(read({ mostRecent: 4 })).toEqual(['ghij', 10]);
  expect(read({ mostRecent: 4 }, 2)).toEqual(['gh', 8]);
  expect(read({ mostRecent: 99 })).toEqual(['abcdefghij', 10]);
  print('klmnopqrstuvwxyz');
  // No further than the first ones, even if more are wanted.
  expect(read({ fromStart: 2 })).toEqual(['cdefgh', 8]);
  expect(read({ fromStart: 20 })).toEqual(['uvwxyz', 26]);
  expect(read({ mostRecent: 8 })).toEqual(['stuvwxyz', 26]);
});

test('the fake server has forgotten what was printed between the first bytes and the last ones', () => {
  const history = new ConsoleHistory(8);
  history.consume(Buffer.from('abcdefghijklmnopqrstuvwxyz'));
  const kept = 'Only have first 8 + most recent 8 saved out of a total 26 of output';
  for (const [offset, asked] of [
    [{ fromStart: 8 }, '8 (-18)'],
    [{ mostRecent: 9 }, '17 (-9)'],
  ] as const) {
    expect(history.read(offset)).toEqual({ refusal: `Requested byte offset ${asked} is no longer cached: ${kept}` });
  }
});
