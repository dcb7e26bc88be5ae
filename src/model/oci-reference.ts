/**
 * The grammar of `oci://registry/repository:tag` and `…@sha256:…`. It stands with the types because the VMFile's rules
 * and the registry's client both need it, and neither may import the other.
 *
 * Not read as a URL: WHATWG's parser takes characters that no registry does, escapes some of them silently, and knows
 * no tag and no digest, so that every part would have to be checked again.
 */

/** What is named in a registry. */
export interface OciReference {
  /** `host` or `host:port`, in lower case; Docker Hub is `docker.io`. */
  readonly registry: string;
  readonly repository: string;
  /** Null where the digest decides. */
  readonly tag: string | null;
  /** `sha256:…` or `sha512:…`, in lower case. */
  readonly digest: string | null;
}

export type ReadReference =
  | { readonly ok: true; readonly value: OciReference }
  /** Why the text is none, to follow "…, but". */
  | { readonly ok: false; readonly problem: string };

const SCHEME = /^oci:\/\//i;
const HOST = /^(?:\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*)$/i;
// OCI distribution specification 1.1, "Pulling manifests".
const REPOSITORY_PART = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
// OCI image specification 1.1, "Digests".
const DIGEST = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;
const LONGEST_NAME = 255;
const DOCKER_HUB = 'docker.io';
const DOCKER_HUB_ALIASES: readonly string[] = [DOCKER_HUB, 'index.docker.io', 'registry-1.docker.io'];

/** Takes a reference apart. Without tag and digest it is the tag `latest`; a digest makes a tag beside it meaningless. */
export function readOciReference(text: string): ReadReference {
  if (!SCHEME.test(text)) return problem('it does not start with `oci://`');
  const rest = text.replace(SCHEME, '');
  const slash = rest.indexOf('/');
  const authority = slash === -1 ? rest : rest.slice(0, slash);
  const wrongHost = registryProblem(authority);
  if (wrongHost !== null) return problem(wrongHost);
  const [named = '', ...digests] = slash === -1 ? [] : rest.slice(slash + 1).split('@');
  const [name = '', ...tags] = named.split(':');
  const parts = { registry: authority.toLowerCase(), name, tag: tags.join(':'), digest: digests.join('@') };
  const wrong =
    repositoryProblem(parts.registry, name) ??
    (tags.length > 0 ? tagProblem(parts.tag) : null) ??
    (digests.length > 0 ? digestProblem(parts.digest) : null);
  if (wrong !== null) return problem(wrong);
  const digest = digests.length > 0 ? parts.digest : null;
  const tag = tags.length > 0 ? parts.tag : 'latest';
  return { ok: true, value: { ...place(parts.registry, name), tag: digest === null ? tag : null, digest } };
}

/** The one text of a reference, for messages and keys. */
export function ociText({ registry, repository, tag, digest }: OciReference): string {
  return `oci://${registry}/${repository}${digest === null ? `:${tag ?? 'latest'}` : `@${digest}`}`;
}

/** Docker Hub has several names, and its official images are called without the folder that they are in. */
function place(registry: string, repository: string): Pick<OciReference, 'registry' | 'repository'> {
  if (!DOCKER_HUB_ALIASES.includes(registry)) return { registry, repository };
  return { registry: DOCKER_HUB, repository: repository.includes('/') ? repository : `library/${repository}` };
}

function problem(reason: string): ReadReference {
  return { ok: false, problem: reason };
}

function registryProblem(authority: string): string | null {
  if (authority === '') return 'it names no registry';
  if (authority.includes('@')) return 'a user or password has no place in it';
  const [, host = '', port] = /^(\[[^\]]*\]|[^:]*)(?::(.*))?$/s.exec(authority) ?? [];
  // Node has the last word on addresses: `[1:2]` and `300.1.1.1` look like some.
  if (!HOST.test(host) || !URL.canParse(`https://${host}`)) return `\`${authority}\` is no registry`;
  if (port === undefined) return null;
  return /^\d{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= 65_535 ? null : `\`${port}\` is no port`;
}

function repositoryProblem(registry: string, name: string): string | null {
  if (name === '') return 'it names no repository';
  if (registry.length + 1 + name.length > LONGEST_NAME) {
    return `its registry and repository have more than ${LONGEST_NAME} characters`;
  }
  const wrong = name.split('/').find((part) => !REPOSITORY_PART.test(part));
  if (wrong === undefined) return null;
  if (wrong === '') return 'a part of its repository is empty';
  if (/[A-Z]/.test(wrong)) return `its repository has upper-case letters (\`${wrong}\`)`;
  return `\`${wrong}\` cannot be a part of its repository`;
}

function tagProblem(tag: string): string | null {
  if (tag === '') return 'its tag is empty';
  return TAG.test(tag) ? null : `\`${tag}\` is no tag`;
}

function digestProblem(digest: string): string | null {
  if (DIGEST.test(digest)) return null;
  const [, algorithm = ''] = /^([^:]*):/.exec(digest) ?? [];
  if (algorithm === 'sha256') return 'its digest is not `sha256:` and 64 hexadecimal digits in lower case';
  if (algorithm === 'sha512') return 'its digest is not `sha512:` and 128 hexadecimal digits in lower case';
  return 'its digest is neither `sha256:…` nor `sha512:…`';
}
