/** Paths in the guest as people write them. */

/**
 * `~` and `~/…` as the path that SFTP knows, which begins in the user's home directory by itself; the home directory is the
 * empty path. A file that is called `~` is `./~`.
 */
export function homePath(path: string): string {
  return path === '~' ? '' : path.replace(/^~\/+/, '');
}
