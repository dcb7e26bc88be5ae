/** Colour, only where the stream is a terminal that wants it; `NO_COLOR`, `FORCE_COLOR` and `TERM=dumb` are obeyed. */
import { styleText } from 'node:util';
import type { OutputStream } from './cli.js';

type Format = Parameters<typeof styleText>[0];
type Variables = Readonly<Record<string, string | undefined>>;

/** https://no-color.org and https://force-color.org: a variable counts when it is not empty; 0 forces no colour. */
export function wantsColor(stream: OutputStream, variables: Variables): boolean {
  const forced = variables['FORCE_COLOR'];
  if (forced !== undefined && forced !== '') return forced !== '0' && forced !== 'false';
  const refused = variables['NO_COLOR'];
  if (refused !== undefined && refused !== '') return false;
  return stream.isTTY === true && variables['TERM'] !== 'dumb';
}

/** A live tree needs a terminal that can move its cursor and has a width, and somebody who watches. */
export function wantsTree(stream: OutputStream, variables: Variables): boolean {
  const inCi = variables['CI'] !== undefined && variables['CI'] !== '' && variables['CI'] !== 'false';
  return stream.isTTY === true && stream.columns !== 0 && variables['TERM'] !== 'dumb' && !inCi;
}

export type Painter = (format: Format, text: string) => string;

export function painter(color: boolean): Painter {
  return color ? (format, text) => styleText(format, text, { validateStream: false }) : (_format, text) => text;
}
