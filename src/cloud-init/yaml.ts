/**
 * The one way in which a value gets into YAML that vmctl writes: as a double-quoted scalar that YAML 1.1 (PyYAML, so
 * cloud-init) and YAML 1.2 both read as exactly this string.
 */

/**
 * What must not stand there as it is, beside what JSON escapes. YAML 1.1 takes U+0085, U+2028 and U+2029 for line
 * breaks (section 4.2), which a double-quoted scalar folds; its readers refuse control characters and U+FFFE and
 * U+FFFF (section 4.1); a byte order mark is for the start of a stream.
 */
const ESCAPED = /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g;

/** A lone surrogate is no character and has no UTF-8; it is written as UTF-8 encoders do. */
const LONE_SURROGATE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/**
 * A string as a YAML scalar in double quotes, on one line. JSON's escapes mean the same in YAML (1.2 specification,
 * section 1.3), with one difference that does not arise here: in YAML `\uXXXX` is a whole character, never half a
 * surrogate pair, so characters beyond U+FFFF are written as they are.
 */
export function quoted(value: string): string {
  return JSON.stringify(value.replace(LONE_SURROGATE, '\ufffd')).replace(ESCAPED, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

/**
 * A text of several lines as a literal block (`|`) below its key, so that people can read it; a text that a block
 * would not keep exactly is quoted. `indent` is that of the key.
 */
export function block(value: string, indent: string): string {
  const plain = /^(?:[!-~][ -~]*\n)+$/.test(value);
  if (!plain) return quoted(value);
  const lines = value.slice(0, -1).split('\n');
  return ['|', ...lines.map((line) => `${indent}  ${line}`)].join('\n');
}
