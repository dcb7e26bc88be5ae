/** The fake propolis-server as a program: `propolis-server run BOOTROM ADDRESS`, where the bootrom says how it behaves. */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { FakePropolis } from './propolis-server.js';
import type { ServerBehaviour } from './propolis-program.js';

const [, , verb, bootrom = '', address = ''] = process.argv;
if (verb !== 'run') process.exit(2);

const behaviour: ServerBehaviour = JSON.parse(readFileSync(bootrom, 'utf8'));
if (behaviour.refuses !== undefined) {
  process.stdout.write(`starting\n${behaviour.refuses}\n`);
  process.exit(1);
}

/** The volumes and VNICs of the host are written down by their fake; everything else is a file. */
function exists(nameOrPath: string): boolean {
  const names: readonly string[] = JSON.parse(readFileSync(behaviour.world, 'utf8'));
  return names.includes(nameOrPath) || (nameOrPath.startsWith('/') && existsSync(nameOrPath));
}

if (behaviour.ignoresSigterm === true) process.on('SIGTERM', () => {});
const log = (line: string) => void process.stdout.write(`${line}\n`);
const { bodies } = behaviour;
const onBody = (request: string, body: string) =>
  bodies === undefined ? undefined : appendFileSync(bodies, `${JSON.stringify([request, JSON.parse(body)])}\n`);
void FakePropolis.start({ ...behaviour, exists, log, onBody }, Number(address.split(':').at(-1))).then(() =>
  log(`listening on ${address}`),
);
