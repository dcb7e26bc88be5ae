/**
 * An SSH server in this process, on a loopback port: commands run in a real /bin/sh in a folder of its own, SFTP works on
 * real files there, and it can be told to behave badly. `test/ssh/connection.test.ts` pins its behaviour by running the
 * same tests against OpenSSH and dropbear.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { type Server as NetServer, type Socket, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import ssh2, { type Connection, type PublicKeyAuthContext, type ServerChannel } from 'ssh2';
import type { Endpoint } from '../../src/model/vm.js';
import { serveFiles } from './sftp-server.js';

export interface SshServerOptions {
  /** The text of the server's private key. */
  readonly hostKey: string;
  /** Lines of `.pub` files. */
  readonly authorizedKeys: readonly string[];
  /** The only user; `vm` by default. */
  readonly user?: string;
  /** False: the server has no SFTP subsystem. */
  readonly sftp?: boolean;
  /** Sent before authentication, as sshd does with the contents of /run/nologin. */
  readonly banner?: string;
  /** The only folder with commands, for those that must not be run in earnest; by default all that there are. */
  readonly commandsIn?: string;
  /** A lower layer's word for a new connection; `serve` by default. */
  readonly mode?: PortMode;
}

/**
 * What happens to a new connection: `serve` it; `hang`, accepting and never answering, as QEMU's user networking does
 * while the guest has no network; `close` it at once, as it does while nothing listens in the guest.
 */
export type PortMode = 'serve' | 'hang' | 'close';

export class SshServer implements AsyncDisposable {
  readonly endpoint: Endpoint;
  /** The guest's root: `/tmp/vmctl-…` in commands and paths leads here, and it is the working directory. */
  readonly root: string;
  /** Every command that was run. */
  readonly commands: string[] = [];
  /** Connections accepted so far, whatever became of them. */
  connections = 0;
  /** How often somebody has asked to be let in so far. */
  asked = 0;
  /** Logins that succeeded so far. */
  logins = 0;
  /** That many logins are refused before one is let in. */
  refuseLogins = 0;
  /** SFTP requests so far for a file that the client had closed already; a server may use its handle for another by then. */
  strayRequests = 0;
  /** While true, requests for a command or SFTP are never answered. */
  ignoreRequests = false;
  /** Milliseconds between a connection and the server's first word. */
  delayMs = 0;
  mode: PortMode;

  readonly #port: NetServer;
  readonly #ssh: ssh2.Server;
  readonly #options: SshServerOptions;
  readonly #sockets = new Set<Socket>();
  readonly #children = new Set<ChildProcess>();

  static async start(options: SshServerOptions): Promise<SshServer> {
    const root = await mkdtemp(join(tmpdir(), 'vmctl-ssh-'));
    await mkdir(join(root, 'tmp'));
    const port = createServer();
    port.listen(0, '127.0.0.1');
    await once(port, 'listening');
    return new SshServer(port, root, options);
  }

  private constructor(port: NetServer, root: string, options: SshServerOptions) {
    const address = port.address();
    if (address === null || typeof address === 'string') throw new Error('not a TCP port');
    this.endpoint = { host: address.address, port: address.port };
    this.root = root;
    this.mode = options.mode ?? 'serve';
    this.#options = options;
    this.#port = port;
    const banner = options.banner === undefined ? {} : { banner: options.banner };
    this.#ssh = new ssh2.Server({ hostKeys: [options.hostKey], ...banner }, (client) => this.#serve(client));
    port.on('connection', (socket) => this.#accept(socket));
  }

  /** Breaks off every connection, as a guest does that loses its power. */
  drop(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Reads nothing any more from any connection, as a guest does that hangs. */
  freeze(): void {
    for (const socket of this.#sockets) socket.pause();
  }

  /** How many connections are open. */
  get open(): number {
    return this.#sockets.size;
  }

  /** How many commands still run. */
  get running(): number {
    return this.#children.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    for (const child of this.#children) kill(child, 'SIGKILL');
    await Promise.all([...this.#children].map((child) => once(child, 'close')));
    this.#port.close();
    await once(this.#port, 'close');
    await rm(this.root, { recursive: true, force: true });
  }

  #accept(socket: Socket): void {
    this.connections += 1;
    this.#sockets.add(socket);
    socket.on('error', () => {}).on('close', () => this.#sockets.delete(socket));
    if (this.mode === 'serve') setTimeout(() => this.#ssh.injectSocket(socket), this.delayMs);
    else if (this.mode === 'close') socket.destroy();
    // Reads, so that it hears when the other side gives up.
    else socket.resume();
  }

  #serve(client: Connection): void {
    const refused = this.refuseLogins > 0;
    if (refused) this.refuseLogins -= 1;
    client.on('error', () => {});
    client.on('authentication', (context) => {
      this.asked += 1;
      if (context.method === 'publickey' && !refused && this.#knows(context)) context.accept();
      else context.reject(['publickey']);
    });
    client.on('ready', () => {
      this.logins += 1;
    });
    client.on('session', (accept) => {
      const session = accept();
      let child: ChildProcess | null = null;
      session.on('exec', (acceptExec, _reject, { command }) => {
        if (!this.ignoreRequests) child = this.#run(acceptExec(), command);
      });
      // ssh2's server ignores everything after the end of the input; sshd and dropbear still take signals then.
      session.on('end', () => Reflect.set(session, '_ending', false));
      session.on('signal', (_accept, _reject, { name }) => {
        if (child !== null) kill(child, `SIG${name}`);
      });
      session.on('sftp', (acceptSftp, reject) => {
        if (this.#options.sftp === false) reject();
        else if (!this.ignoreRequests) {
          serveFiles(acceptSftp(), {
            locate: (path) => this.#path(path),
            onStray: () => void (this.strayRequests += 1),
          });
        }
      });
    });
  }

  #knows(context: PublicKeyAuthContext): boolean {
    if (context.username !== (this.#options.user ?? 'vm')) return false;
    return this.#options.authorizedKeys.some((line) => {
      const key = ssh2.utils.parseKey(line);
      if (key instanceof Error || !key.getPublicSSH().equals(context.key.data)) return false;
      if (context.signature === undefined || context.blob === undefined) return true;
      return key.verify(context.blob, context.signature, context.hashAlgo);
    });
  }

  #run(channel: ServerChannel, command: string): ChildProcess {
    this.commands.push(command);
    const child = spawn('/bin/sh', ['-c', command.replaceAll('/tmp/vmctl-', join(this.root, 'tmp/vmctl-'))], {
      cwd: this.root,
      env: { PATH: this.#options.commandsIn ?? process.env['PATH'], HOME: this.root, SHELL: '/bin/sh' },
      // Its own process group, which signals are sent to, as in sshd.
      detached: true,
    });
    this.#children.add(child);
    child.stdin.on('error', () => {});
    channel.on('error', () => {});
    channel.pipe(child.stdin);
    child.stdout.pipe(channel, { end: false });
    child.stderr.on('data', (chunk: Buffer) => channel.stderr.write(chunk));
    child.on('close', (code, signal) => {
      this.#children.delete(child);
      if (signal === null) channel.exit(code ?? 255);
      else channel.exit(signal.replace(/^SIG/, ''));
      channel.end();
    });
    return child;
  }

  #path(path: string): string {
    return path.startsWith('/tmp/vmctl-') ? join(this.root, path) : resolve(this.root, path);
  }
}

function kill(child: ChildProcess, signal: string): void {
  if (child.pid === undefined || child.exitCode !== null) return;
  spawn('kill', ['-s', signal.replace(/^SIG/, ''), '--', `-${child.pid}`]);
}
