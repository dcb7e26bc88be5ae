/** A network of its own, where bridges and TAP devices disturb nobody: a network namespace, removed at the end. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { randomBytes } from 'node:crypto';

export interface Network extends AsyncDisposable {
  /** Runs the words after it inside: `ip netns exec NAME`. */
  readonly runner: readonly string[];
  /** Runs `ip` inside, and gives what it printed. Throws when it fails. */
  readonly ip: (...words: readonly string[]) => string;
  /** Serves addresses on the bridge until the end; leases are written to the file. */
  serveAddresses(options: { readonly bridge: string; readonly leaseFile: string }): Promise<void>;
}

/** Null where this host lets nobody make one, or has no TAP devices. */
export function openNetwork(): Network | null {
  const name = `vmctl-${process.pid}-${randomBytes(3).toString('hex')}`;
  if (spawnSync('ip', ['netns', 'add', name]).status !== 0) return null;
  const ip = (...words: readonly string[]): string => {
    const { status, stdout, stderr } = spawnSync('ip', ['-n', name, ...words], { encoding: 'utf8' });
    if (status !== 0) throw new Error(`ip ${words.join(' ')}: ${stderr}`);
    return stdout;
  };
  const remove = () => void spawnSync('ip', ['netns', 'delete', name]);
  try {
    ip('tuntap', 'add', 'dev', 'probe', 'mode', 'tap');
    ip('link', 'delete', 'dev', 'probe');
    ip('link', 'set', 'lo', 'up');
  } catch {
    remove();
    return null;
  }
  const runner = ['ip', 'netns', 'exec', name];
  const servers: ChildProcess[] = [];
  return {
    runner,
    ip,
    serveAddresses: async ({ bridge, leaseFile }) => void servers.push(await startDnsmasq(runner, bridge, leaseFile)),
    [Symbol.asyncDispose]: async () => {
      for (const server of servers) {
        const ended = once(server, 'exit');
        if (server.kill('SIGKILL')) await ended;
      }
      remove();
    },
  };
}

/** Settles when it serves: it says so on stderr. */
async function startDnsmasq(runner: readonly string[], bridge: string, leaseFile: string): Promise<ChildProcess> {
  const [program = '', ...rest] = runner;
  const words = [
    ...['dnsmasq', '--keep-in-foreground', '--log-facility=-', '--conf-file=/dev/null', '--user=root', '--port=0'],
    ...[`--interface=${bridge}`, '--bind-interfaces', '--dhcp-range=10.99.0.10,10.99.0.99,1h'],
    ...['--dhcp-authoritative', `--dhcp-leasefile=${leaseFile}`, '--pid-file='],
  ];
  const server = spawn(program, [...rest, ...words], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  for await (const chunk of server.stderr) {
    said += String(chunk);
    if (said.includes('DHCP, IP range')) {
      // Read on, or the pipe fills up.
      server.stderr.resume();
      return server;
    }
  }
  throw new Error(`dnsmasq ended: ${said}`);
}
