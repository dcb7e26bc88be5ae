/** Whom to log in to, as whom, and how each side proves who it is. */
import type { Endpoint } from '../model/vm.js';

/** How the server proves who it is. */
export type HostKeyPolicy =
  /** `ssh-ed25519 AAAA…`: this key and no other; while the server is being given another one, that one instead. */
  | { readonly kind: 'pinned'; readonly publicKey: string; readonly orElse?: string }
  /** Any key, once: it is told after the login, and is for the caller to keep. */
  | { readonly kind: 'learn'; readonly onLearned: (publicKey: string) => Promise<void> | void };

export interface PrivateKeySource {
  /** Where the key comes from, for messages: a path. */
  readonly source: string;
  /** The text of the private key file, in OpenSSH's or PEM format. */
  readonly key: string;
}

export interface SshTarget {
  readonly endpoint: Endpoint;
  readonly user: string;
  /** Tried in this order. */
  readonly privateKeys: readonly PrivateKeySource[];
  readonly hostKey: HostKeyPolicy;
}
