/** The logs of a VM, line by line. */
import { stripVTControlCharacters } from 'node:util';
import { catchUpConsole, keepConsole } from '../../tasks/console-log.js';
import { LineSplitter } from '../ssh/line-splitter.js';
import { openTail } from '../util/file-tail.js';
import { followFile } from '../util/follow-file.js';
import { throwIfAborted } from '../util/wait.js';
import type { Machine } from './machine.js';
import type { LogOptions } from './vm-types.js';

/** Nothing where there is no log yet. */
export async function* logLines(
  machine: Machine,
  kind: 'console' | 'provision',
  { follow = false, tail, signal = new AbortController().signal }: LogOptions,
): AsyncGenerator<string, void> {
  const path = machine.file(kind === 'console' ? 'consoleLog' : 'provisionLog');
  const isConsole = kind === 'console';
  if (isConsole) await catchUpConsole(machine.env, machine.entry);
  await using _keeper = isConsole && follow ? keepConsole(machine.env, machine.entry) : null;
  const lastLines = tail === undefined ? {} : { lastLines: tail };
  const chunks = follow ? followFile(path, { signal, ...lastLines }) : await openTail(path, tail);
  const ready: string[] = [];
  const splitter = new LineSplitter((line) => void ready.push(stripVTControlCharacters(line)));
  for await (const chunk of chunks ?? []) {
    throwIfAborted(signal);
    splitter.push(chunk);
    yield* ready.splice(0);
  }
  splitter.end();
  yield* ready;
}
