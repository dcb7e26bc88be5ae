/** What the tests of registries hand to a client. */
import type { Dispatcher } from 'undici';
import { Agent } from 'undici';
import type { Credentials } from '../../src/image/oci/credentials.js';
import { parseOciReference } from '../../src/image/oci/reference.js';
import { RegistryClient, type RegistryOptions } from '../../src/image/oci/registry.js';
import { silentReporter } from '../../src/model/event.js';
import { USER } from './oci-registry.js';

export const login: Credentials = { kind: 'password', ...USER, from: 'the test' };

/** A dispatcher that remembers what it was asked, as `GET /v2/…` without queries. */
export class CountingAgent implements AsyncDisposable {
  readonly asked: string[] = [];
  /** Told each request before it is sent. */
  onAsked: (request: string) => void = () => {};
  readonly dispatcher: Dispatcher;
  readonly #agent = new Agent();

  constructor() {
    this.dispatcher = this.#agent.compose((dispatch) => (options, handler) => {
      const request = `${options.method} ${options.path.replace(/\?.*/, '')}`;
      this.asked.push(request);
      this.onAsked(request);
      return dispatch(options, handler);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent.destroy();
  }
}

export function registryOptions(agent: CountingAgent, more: Partial<RegistryOptions> = {}): RegistryOptions {
  return {
    dispatcher: agent.dispatcher,
    signal: new AbortController().signal,
    reporter: silentReporter,
    stallMs: 20_000,
    retryDelaysMs: [1, 1],
    credentials: () => Promise.resolve(null),
    ...more,
  };
}

export function client(reference: string, agent: CountingAgent, more: Partial<RegistryOptions> = {}): RegistryClient {
  return new RegistryClient(parseOciReference(reference), registryOptions(agent, more));
}
