#!/usr/bin/env node
/** The program `vmctl`: hands the real streams and signals to the command line. The only place that exits. */
import { homedir } from 'node:os';
import type { Cli } from './cli.js';
import { listenForInterrupts } from './interrupt.js';
import { runCli } from './main.js';

const interrupts = listenForInterrupts(() => {
  const what = cli.onInterrupt === null ? '' : `: ${cli.onInterrupt()} (again to leave at once)`;
  process.stderr.write(`\nInterrupted${what}\n`);
});

const cli: Cli = {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  variables: process.env,
  home: homedir(),
  cwd: process.cwd(),
  signal: interrupts.signal,
  onInterrupt: null,
  onOutputClosed: null,
  ignoreInterrupts: () => interrupts.ignore(),
  passSignals: (to) => interrupts.pass(to),
  wordsBeforeDashes: 0,
  exitCode: 0,
};

// Whoever reads may go away at any moment, as in `vmctl up | head -1`, or a closed terminal. What was begun is then
// finished or stopped in good order all the same: only the words have nowhere to go.
process.stdout.on('error', () => cli.onOutputClosed?.());
process.stderr.on('error', () => {});

const exitCode = await runCli(process.argv.slice(2), cli);
process.exitCode = interrupts.exitCode() ?? exitCode;
interrupts.dispose();
