/** What `WWW-Authenticate` asks for (RFC 9110, sections 11.2 to 11.6.1). Pure. */

export interface Challenge {
  /** In lower case: `bearer`, `basic`. */
  readonly scheme: string;
  /** Names in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

const SEPARATOR = /[\s,]*/y;
const TOKEN = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;
const VALUE = /\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/sy;

/**
 * The challenges of all these header fields. A comma separates challenges and their parameters alike; what follows a
 * name tells which it was. Reading ends at what is neither.
 */
export function parseChallenges(fields: readonly string[]): readonly Challenge[] {
  return fields.flatMap(challengesOf);
}

function challengesOf(field: string): readonly Challenge[] {
  const found: { scheme: string; parameters: Map<string, string> }[] = [];
  let at = 0;
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const match = pattern.exec(field);
    if (match !== null) at = pattern.lastIndex;
    return match;
  };
  for (;;) {
    take(SEPARATOR);
    const name = take(TOKEN)?.[0].toLowerCase();
    if (name === undefined) return found;
    const value = take(VALUE);
    if (value === null) found.push({ scheme: name, parameters: new Map() });
    else found.at(-1)?.parameters.set(name, value[1]?.replaceAll(/\\(.)/gs, '$1') ?? value[2] ?? '');
  }
}
