/**
 * The `authorization` header for one repository of one registry. Credentials go to the registry's own origin and to
 * the token server that it names, over connections that nobody else reads, and nowhere else.
 */
import { Buffer } from 'node:buffer';
import * as v from 'valibot';
import { VmctlError } from '../../errors.js';
import { type HttpOptions, downloadError, sendRequest, statusFailure } from '../http.js';
import { parseJson, smallBody } from './body.js';
import { type Challenge } from './challenge.js';
import { type Credentials, loginCommand } from './credentials.js';
import { type OciReference, isPrivate, ociText } from './reference.js';

export interface AuthenticationOptions extends HttpOptions {
  /** What the token has to allow. */
  readonly actions: 'pull' | 'pull,push';
  /** Asked when the registry wants to know who it is. */
  readonly credentials: () => Promise<Credentials | null>;
  /** Milliseconds of a clock that only goes forward; default Node's. */
  readonly now?: () => number;
}

interface Authorization {
  readonly header: string;
  /** On the clock of the options. */
  readonly expiresAt: number;
  /** What a new one is got for. */
  readonly challenge: Challenge;
}

const Token = v.object({
  token: v.optional(v.string()),
  access_token: v.optional(v.string()),
  expires_in: v.optional(v.pipe(v.number(), v.finite(), v.minValue(1))),
});

/** Docker's token specification: what is meant where `expires_in` is missing. */
const DEFAULT_LIFETIME_SECONDS = 60;
/** The part of a token's life in which it is used. */
const USED_LIFETIME = 0.9;
const CLIENT_ID = 'vmctl';

/** Remembers the token, and gets another one when it has expired or is refused. */
export class Authentication {
  readonly #reference: OciReference;
  readonly #options: AuthenticationOptions;
  #current: Authorization | null = null;
  #credentials: Credentials | null = null;

  constructor(reference: OciReference, options: AuthenticationOptions) {
    this.#reference = reference;
    this.#options = options;
  }

  /** The header to send; null while the registry has not asked for one. */
  async header(): Promise<string | null> {
    const { now = () => performance.now() } = this.#options;
    if (this.#current === null) return null;
    if (now() >= this.#current.expiresAt) await this.#answer(this.#current.challenge);
    return this.#current.header;
  }

  /**
   * The header that answers what the registry asks for; `refused` is the one that it has just refused. Throws
   * `IMAGE_DOWNLOAD` where there is nothing that could help, `TransientFailure`, and what looking for credentials throws.
   */
  async answer(challenges: readonly Challenge[], refused: string | null): Promise<string> {
    const bearer = challenges.find(({ scheme, parameters }) => scheme === 'bearer' && parameters.has('realm'));
    const challenge = bearer ?? challenges.find(({ scheme }) => scheme === 'basic');
    if (challenge === undefined) throw this.refusal();
    const header = await this.#answer(challenge);
    // The same password again would be refused again.
    if (header === refused) throw this.refusal();
    return header;
  }

  /** What it means that the registry still asks who this is. */
  refusal(): VmctlError {
    const { registry } = this.#reference;
    const from = this.#credentials?.from;
    const reason =
      from === undefined
        ? `${registry} wants a login for ${ociText(this.#reference)}, or there is no such image`
        : `${registry} refuses the credentials from ${from} for ${ociText(this.#reference)}`;
    const github = registry === 'ghcr.io' && from === undefined ? ', or set GITHUB_TOKEN' : '';
    return new VmctlError('IMAGE_DOWNLOAD', reason, {
      hint: `${from === undefined ? 'Log in' : 'Log in again'}: ${loginCommand(this.#reference)}${github}.`,
      fields: { registry, reason: from === undefined ? 'a login is needed' : 'the credentials are refused' },
    });
  }

  async #answer(challenge: Challenge): Promise<string> {
    const { now = () => performance.now(), credentials } = this.#options;
    this.#credentials = await credentials();
    if (challenge.scheme === 'basic') {
      if (this.#credentials?.kind !== 'password') throw this.refusal();
      const header = basic(this.#credentials);
      this.#current = { header, challenge, expiresAt: Number.POSITIVE_INFINITY };
      return header;
    }
    const asked = now();
    const { token, lifetimeSeconds } = await this.#token(challenge, this.#credentials);
    const expiresAt = asked + lifetimeSeconds * 1000 * USED_LIFETIME;
    this.#current = { header: `Bearer ${token}`, challenge, expiresAt };
    return this.#current.header;
  }

  async #token(
    { parameters }: Challenge,
    credentials: Credentials | null,
  ): Promise<{ readonly token: string; readonly lifetimeSeconds: number }> {
    const realm = this.#realm(parameters.get('realm') ?? '');
    const service = parameters.get('service');
    const asked = {
      service: service ?? '',
      scopes: this.#scopes(parameters.get('scope') ?? ''),
    };
    const response =
      credentials?.kind === 'refresh-token'
        ? await refreshToken(realm, { ...asked, token: credentials.token }, this.#options)
        : await fetchToken(realm, { ...asked, credentials }, this.#options);
    const bytes = await smallBody(realm, response, this.#options);
    if (response.statusCode === 401 || response.statusCode === 403) throw this.refusal();
    if (response.statusCode !== 200) throw statusFailure(realm, response);
    const parsed = v.safeParse(Token, parseJson(bytes));
    const token = parsed.success ? (parsed.output.token ?? parsed.output.access_token) : undefined;
    if (!parsed.success || token === undefined || !/^[\x21-\x7e]+$/.test(token)) {
      throw downloadError(realm, 'the answer holds no token', { hint: 'That is no token server, or a broken one.' });
    }
    return { token, lifetimeSeconds: parsed.output.expires_in ?? DEFAULT_LIFETIME_SECONDS };
  }

  #realm(text: string): URL {
    const realm = URL.canParse(text) ? new URL(text) : null;
    if (realm !== null && isPrivate(realm)) return realm;
    const { registry } = this.#reference;
    const shown = realm?.origin ?? JSON.stringify(text.slice(0, 100));
    throw new VmctlError('IMAGE_DOWNLOAD', `${registry} wants a login at ${shown}, which is not encrypted`, {
      hint: 'Ask whoever runs that registry: its token server needs https.',
      fields: { registry, reason: 'the token server is not encrypted' },
    });
  }

  /** What the registry asks for, with everything that this client is going to do in its repository. */
  #scopes(asked: string): readonly string[] {
    const own = `repository:${this.#reference.repository}:`;
    const others = asked.split(' ').filter((scope) => scope !== '' && !scope.startsWith(own));
    return [...others, `${own}${this.#options.actions}`];
  }
}

interface TokenRequest {
  readonly service: string;
  readonly scopes: readonly string[];
}

/** Docker's token specification, "Requesting a Token". */
async function fetchToken(
  realm: URL,
  { service, scopes, credentials }: TokenRequest & { readonly credentials: Credentials | null },
  options: HttpOptions,
) {
  const url = new URL(realm);
  if (service !== '') url.searchParams.set('service', service);
  for (const scope of scopes) url.searchParams.append('scope', scope);
  url.searchParams.set('client_id', CLIENT_ID);
  const headers = credentials?.kind === 'password' ? { authorization: basic(credentials) } : {};
  return sendRequest(url, { headers }, options);
}

/** Docker's OAuth2 specification, "Getting a token". The token is in the body, which no redirect may take along. */
async function refreshToken(
  realm: URL,
  { service, scopes, token }: TokenRequest & { readonly token: string },
  options: HttpOptions,
) {
  const form = new URLSearchParams({
    grant_type: 'refresh_token',
    service,
    client_id: CLIENT_ID,
    scope: scopes.join(' '),
    refresh_token: token,
  });
  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  return sendRequest(realm, { method: 'POST', headers, body: form.toString(), followRedirects: false }, options);
}

function basic({ username, password }: Credentials & { readonly kind: 'password' }): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}
