/** Pieces of SVG text, and how wide words are where no font can be asked. */

/** Of the fonts that browsers and renderers take for "sans-serif", in parts of the font's size; capitals are wider. */
const CHARACTER_WIDTH = 0.56;

export function escapeMarkup(text: string): string {
  return text
    .replaceAll(/\p{Cc}/gu, ' ')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

/** Two decimals: more are below what a screen shows, and only make the file larger. */
export function coordinate(value: number): string {
  return String(Math.round(value * 100) / 100);
}

type Attributes = Readonly<Record<string, string | number | undefined>>;

/** `<name …>content</name>`; attributes that are undefined are left out. The content is markup already. */
export function element(name: string, attributes: Attributes, content = ''): string {
  const written = Object.entries(attributes).flatMap(([key, value]) => {
    if (value === undefined) return [];
    return [` ${key}="${typeof value === 'number' ? coordinate(value) : escapeMarkup(value)}"`];
  });
  return content === '' ? `<${name}${written.join('')}/>` : `<${name}${written.join('')}>${content}</${name}>`;
}

export function textElement(text: string, attributes: Attributes): string {
  return element('text', attributes, escapeMarkup(text));
}

/** About how wide the text is in pixels. */
export function textWidth(text: string, size: number): number {
  return Array.from(text).length * size * CHARACTER_WIDTH;
}

/** The text, cut to that width with an ellipsis; null where not even a few characters have room. */
export function fitText(text: string, width: number, size: number): string | null {
  const room = Math.floor(width / (size * CHARACTER_WIDTH));
  const characters = Array.from(text);
  if (characters.length <= room) return text;
  return room < 3 ? null : `${characters.slice(0, room - 1).join('')}…`;
}

/** Lines of at most so many characters; of long texts the first few lines. */
export function wrapText(
  text: string,
  { columns, most }: { readonly columns: number; readonly most: number },
): readonly string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/)) {
    if (line !== '' && line.length + word.length >= columns) {
      lines.push(line);
      line = '';
    }
    line = line === '' ? word : `${line} ${word}`;
  }
  if (line !== '') lines.push(line);
  return lines.length <= most ? lines : [...lines.slice(0, most - 1), `${lines[most - 1]} …`];
}
