/** An image in a registry, as a place that images come from. */
import { VmctlError } from '../../errors.js';
import { type ImageRecord, type Origin, originOf } from '../cache-index.js';
import type { Environment } from '../http.js';
import type { Content, ImagePlace, RequestOptions } from '../place.js';
import type { PullPolicy } from '../../model/pull-policy.js';
import { type ImageAddress, addressOf, keyOf } from '../source.js';
import { findCredentials } from './credentials.js';
import { type DiskLayer, checksumOf, platformOf } from './manifest.js';
import { type OciReference, isLoopback, ociText, registryOrigin } from './reference.js';
import { RegistryClient } from './registry.js';

export interface RegistryUser {
  /** Where `DOCKER_CONFIG` and `GITHUB_TOKEN` are looked for. */
  readonly environment: Environment;
  /** The user's home directory. */
  readonly home: string;
  /** Node's name of the guest's processor. */
  readonly architecture: string;
}

export class RegistryPlace implements ImagePlace {
  readonly address: ImageAddress;
  readonly proxies: Environment;
  readonly #reference: OciReference;
  readonly #user: RegistryUser;

  constructor(reference: OciReference, user: RegistryUser) {
    this.address = addressOf(ociText(reference));
    // No proxy reaches this host's registries, and one would read their passwords.
    this.proxies = isLoopback(registryOrigin(reference)) ? {} : user.environment;
    this.#reference = reference;
    this.#user = user;
  }

  isKnown(record: ImageRecord, pull: PullPolicy): boolean {
    // What a digest names never changes.
    const mayHaveMoved = pull === 'always' && this.#reference.digest === null;
    return !mayHaveMoved && originOf(record, this.address.key) !== undefined;
  }

  async look(before: Origin | null, options: RequestOptions): Promise<Content> {
    const { registry } = this.#reference;
    options.reporter.status(`asking ${registry} for ${this.address.name}`);
    const client = this.#client(options);
    if (before?.manifest !== undefined && before.manifest !== null) {
      const digest = await client.resolveDigest();
      if (digest === before.manifest) return this.#unchanged(before, client);
    }
    const { digest, layer } = await this.#resolve(client);
    return this.#content({ layer, manifest: digest }, client);
  }

  #client({ delaysMs, ...http }: RequestOptions): RegistryClient {
    const { environment, home } = this.#user;
    const access = { environment, home, signal: http.signal };
    const credentials = () => findCredentials(this.#reference, access);
    return new RegistryClient(this.#reference, { ...http, retryDelaysMs: delaysMs, credentials });
  }

  #resolve(client: RegistryClient) {
    return client.resolveImage(platformOf(this.#user.architecture));
  }

  #content(
    { layer, manifest }: { readonly layer: DiskLayer; readonly manifest: string },
    client: RegistryClient,
  ): Content {
    return {
      // The same blob of two tags or two registries is one download.
      key: keyOf(`blob ${layer.digest}`),
      shown: this.address.shown,
      checksum: checksumOf(layer.digest),
      checksumUrl: null,
      manifest,
      open: (range, http) => client.openBlob(layer, range, http),
    };
  }

  /** The tag stands for what it stood for; only if that is not here any more, the registry has to be asked for it. */
  #unchanged(before: Origin, client: RegistryClient): Content {
    const digest = `sha256:${before.sha256}`;
    return {
      key: keyOf(`blob ${digest}`),
      shown: this.address.shown,
      checksum: { algorithm: 'sha256', digest: before.sha256 },
      checksumUrl: null,
      manifest: before.manifest,
      open: async (range, http) => client.openBlob((await this.#resolve(client)).layer, range, http),
    };
  }
}

/** A registry's images carry their digests; a checksum beside one would be a second word about the same thing. */
export function refuseChecksum(shown: string): never {
  throw new VmctlError('UNSUPPORTED', `${shown} takes no checksum: what comes from a registry has its own`, {
    hint: 'Leave the checksum out, or name the image by its digest: oci://REGISTRY/REPOSITORY@sha256:…',
  });
}
