// The pictures of the documentation, from real runs on real QEMU.
//
//     node scripts/picture.mjs            docs/up.svg: what a terminal shows during `vmctl up` of the quickstart. Every
//                                         screen that differs from the one before becomes a frame, shown as long as it
//                                         was there. Needs tmux.
//     node scripts/picture.mjs timeline   docs/timeline.svg: what `vmctl up --timeline` draws
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { buildGuest, ensurePrograms, root, run, say } from './setup.mjs';

const COLUMNS = 96;
const ROWS = 24;
const HOLD_MS = 5000;

/** Runs the quickstart in a terminal; gives its screens, each with the milliseconds that it was there. */
async function film() {
  const home = mkdtempSync(join(tmpdir(), 'vmctl-picture-'));
  const project = join(home, 'project');
  cpSync(join(root, 'examples', 'quickstart'), project, {
    recursive: true,
    filter: (path) => !path.endsWith('.qcow2'),
  });
  symlinkSync(buildGuest('pocket'), join(project, 'guest.qcow2'));
  mkdirSync(join(home, 'bin'));
  const vmctl = join(home, 'bin', 'vmctl');
  writeFileSync(vmctl, `#!/bin/sh\nexec '${process.execPath}' '${join(root, 'dist', 'cli.js')}' "$@"\n`);
  chmodSync(vmctl, 0o755);
  const tmux = (...words) =>
    execFileSync('tmux', ['-S', join(home, 'tmux'), '-f', '/dev/null', '-u', ...words], { encoding: 'utf8' });
  const variables = {
    HOME: home,
    PATH: `${join(home, 'bin')}:${process.env.PATH}`,
    TERM: 'xterm-256color',
    LANG: 'C.UTF-8',
    PS1: '$ ',
  };
  const words = ['env', '-i', ...Object.entries(variables).map(([name, value]) => `${name}=${value}`), 'sh'];
  const frames = [];
  const shoot = () => {
    const screen = tmux('capture-pane', '-p', '-e').trimEnd();
    const now = performance.now();
    if (frames.at(-1)?.screen === screen) return screen;
    frames.push({ screen, at: now });
    return screen;
  };
  const until = async (sight) => {
    while (!sight.test(shoot())) await pause(40);
  };
  try {
    tmux(
      'set-option',
      '-g',
      'status',
      'off',
      ';',
      'new-session',
      '-d',
      '-x',
      String(COLUMNS),
      '-y',
      String(ROWS),
      '-c',
      project,
      '--',
      ...words,
    );
    await until(/\$/);
    tmux('send-keys', '-l', 'vmctl up');
    await until(/vmctl up/);
    tmux('send-keys', 'Enter');
    await until(/\d up\S*\n\$/);
    tmux('send-keys', '-l', 'vmctl list');
    tmux('send-keys', 'Enter');
    await until(/SSH PORT[\s\S]*\$/);
    const end = performance.now();
    return frames.map(({ screen, at }, i) => ({ screen, ms: (frames[i + 1]?.at ?? end) - at }));
  } finally {
    execFileSync(vmctl, ['down', '--destroy'], { cwd: project, env: variables, stdio: 'ignore' });
    tmux('kill-server');
    rmSync(home, { recursive: true, force: true });
  }
}

const PALETTE = ['#484f58', '#ff7b72', '#3fb950', '#d29922', '#58a6ff', '#bc8cff', '#39c5cf', '#b1bac4'];
const FOREGROUND = '#c9d1d9';
const CHARACTER = { width: 8.4, height: 19 };
const MARGIN = 16;

/** One line with its colours (ECMA-48, "SGR") as runs of text of one style. */
export function parseLine(line) {
  const runs = [];
  let [style, column] = [{ color: FOREGROUND, bold: false, dim: false }, 0];
  // oxlint-disable-next-line no-control-regex -- this is what a terminal is sent
  for (const [, codes, text] of line.matchAll(/\u001b\[([\d;]*)m|([^\u001b]+)/gu)) {
    if (text === undefined) style = codes.split(';').map(Number).reduce(restyle, style);
    else {
      runs.push({ ...style, text, column });
      column += [...text].length;
    }
  }
  return runs.filter(({ text }) => text.trim() !== '');
}

function restyle(style, code) {
  if (code === 0) return { color: FOREGROUND, bold: false, dim: false };
  if (code === 1) return { ...style, bold: true };
  if (code === 2) return { ...style, dim: true };
  if (code === 22) return { ...style, bold: false, dim: false };
  if (code === 39) return { ...style, color: FOREGROUND };
  if (code >= 30 && code <= 37) return { ...style, color: PALETTE[code - 30] };
  return code >= 90 && code <= 97 ? { ...style, color: PALETTE[code - 90] } : style;
}

/** The frames as one animated picture. A line is drawn once, however many frames show it. */
export function draw(frames) {
  const width = COLUMNS * CHARACTER.width + 2 * MARGIN;
  const rows = Math.max(...frames.map(({ screen }) => screen.split('\n').length));
  const height = rows * CHARACTER.height + 2 * MARGIN;
  const lines = new Map();
  const films = frames.map(({ screen }, i) => {
    const uses = screen.split('\n').flatMap((line, row) => {
      const text = parseLine(line);
      if (text.length === 0) return [];
      if (!lines.has(line)) lines.set(line, { id: `l${lines.size}`, text });
      return [`<use href="#${lines.get(line).id}" y="${row * CHARACTER.height}"/>`];
    });
    return `<g transform="translate(${i * width} 0)">${uses.join('')}</g>`;
  });
  const total = frames.reduce((sum, { ms }) => sum + ms, HOLD_MS);
  let passed = 0;
  const keys = frames.map(({ ms }, i) => {
    const key = `${((passed / total) * 100).toFixed(2)}%{transform:translateX(${-i * width}px)}`;
    passed += ms;
    return key;
  });
  const last = -(frames.length - 1) * width;
  const defs = [...lines.values()].map(({ id, text }) => `<g id="${id}">${text.map(textElement).join('')}</g>`);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="vmctl up brings up two virtual machines, and vmctl list shows them">
<style>
text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre}
.film{transform:translateX(${last}px)}
@media (prefers-reduced-motion:no-preference){.film{animation:film ${(total / 1000).toFixed(2)}s steps(1,end) infinite}}
@keyframes film{${keys.join('')}100%{transform:translateX(${last}px)}}
</style>
<defs>${defs.join('\n')}</defs>
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
<svg x="${MARGIN}" y="${MARGIN}" width="${width - 2 * MARGIN}" height="${height - 2 * MARGIN}"><g class="film">
${films.join('\n')}
</g></svg>
</svg>
`;
}

function textElement({ text, column, color, bold, dim }) {
  const escaped = text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').trimEnd();
  const style = `${bold ? ' font-weight="bold"' : ''}${dim ? ' opacity="0.6"' : ''}`;
  return `<text x="${(column * CHARACTER.width).toFixed(1)}" y="14" fill="${color}"${style} xml:space="preserve">${escaped}</text>`;
}

/** Four machines of which one waits for two others, and one for a place among those that boot. */
function timeline() {
  const home = mkdtempSync(join(tmpdir(), 'vmctl-picture-'));
  const image = buildGuest('pocket');
  const vm = (name, lines) =>
    `vm "${name}" {\n  image "${image}"\n  memory 256\n  cloud-init\n  ssh\n${lines.map((line) => `  ${line}\n`).join('')}}\n`;
  const shell = (inline) => `provision "shell" { inline "${inline}" }`;
  const vms = [
    vm('web', [
      'depends-on "db" "cache"',
      'provision "file" { source "site.tar"; destination "/tmp/site.tar" }',
      shell('sleep 2; echo unpack the site'),
      shell('sleep 4; echo start the server'),
    ]),
    vm('db', [shell('sleep 3; echo make the database'), shell('sleep 5; echo load the rows')]),
    vm('cache', [shell('sleep 1; echo warm it up')]),
    vm('worker', [shell('sleep 4; echo install the queue')]),
  ];
  const env = { ...process.env, VMCTL_STATE: join(home, 'state') };
  const vmctl = (...words) =>
    execFileSync(process.execPath, [join(root, 'dist', 'cli.js'), ...words], {
      cwd: home,
      env,
      stdio: ['ignore', 2, 2],
    });
  try {
    writeFileSync(join(home, 'VMFile.kdl'), vms.join('\n'));
    writeFileSync(join(home, 'site.tar'), Buffer.alloc(2 * 1024 ** 2));
    vmctl('up', '--parallel', '2', '--timeline', join(root, 'docs', 'timeline.svg'));
  } finally {
    vmctl('down', '--destroy');
    rmSync(home, { recursive: true, force: true });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const wanted = process.argv[2] ?? 'up';
  ensurePrograms(['qemu-system-x86_64', 'qemu-img', ...(wanted === 'up' ? ['tmux'] : [])]);
  run(process.execPath, ['scripts/build.mjs']);
  if (wanted === 'timeline') timeline();
  else await terminal();
}

async function terminal() {
  say('vmctl up, in a terminal');
  const picture = draw(await film());
  mkdirSync(join(root, 'docs'), { recursive: true });
  writeFileSync(join(root, 'docs', 'up.svg'), picture);
  say(`docs/up.svg: ${Math.round(picture.length / 1024)} KiB`);
}
