#!/usr/bin/env node
/** The program `vmctl`: hands the real streams and signals to the command line. The only place that exits. */
import { homedir } from 'node:os';
import type { VmctlError } from '../errors.js';
import type { Cli } from './cli.js';
import { EXIT } from './exit-code.js';
import { listenForInterrupts } from './interrupt.js';
import { runCli } from './main.js';
import { outputError } from './output.js';

const interrupts = listenForInterrupts({
  stopping: () => {
    const what = cli.onInterrupt === null ? '' : `: ${cli.onInterrupt()} (again to leave at once)`;
    process.stderr.write(`\nInterrupted${what}\n`);
  },
  leaving: () => {
    process.stderr.write(`\n${cli.onInterrupt === null ? '' : 'Left at once; what may still run: vmctl list\n'}`);
  },
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
let unwritten: VmctlError | null = null;
process.stdout.on('error', (error) => {
  if (unwritten === null) {
    unwritten = outputError(error, process.stdout.isTTY);
    if (unwritten !== null) void tell(unwritten);
  }
  cli.onOutputClosed?.();
});
process.stderr.on('error', () => {});

const exitCode = await runCli(process.argv.slice(2), cli);
process.exitCode = interrupts.exitCode() ?? exitCode;
interrupts.dispose();
// A stream tells its last failure after whoever wrote has gone on, and so perhaps only now.
process.once('exit', (code) => {
  if (unwritten !== null && (code === EXIT.done || code === EXIT.outputClosed)) process.exitCode = EXIT.failed;
});

async function tell(error: VmctlError): Promise<void> {
  const { printError } = await import('./report.js');
  printError(cli, error);
}
