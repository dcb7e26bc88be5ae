/** Where the ticks of a time axis stand, and what is written at them. */

const STEPS_S = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200,
  21_600, 43_200, 86_400,
];

export interface Tick {
  /** Milliseconds from the beginning. */
  readonly at: number;
  readonly label: string;
}

/** Round times from 0 on, at most about `most` of them. */
export function ticks(totalMs: number, most: number): readonly Tick[] {
  const total = totalMs / 1000;
  const step = STEPS_S.find((seconds) => total / seconds <= most) ?? Math.ceil(total / most / 86_400) * 86_400;
  return Array.from({ length: Math.floor(total / step + 1e-9) + 1 }, (_, i) => ({
    at: i * step * 1000,
    label: label(i * step, step),
  }));
}

function label(seconds: number, step: number): string {
  if (seconds === 0) return '0';
  if (step < 1) return step < 0.1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${seconds} s`;
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.round(seconds % 60)];
  if (hours > 0) return minutes === 0 ? `${hours} h` : `${hours} h ${minutes}`;
  return rest === 0 ? `${minutes} min` : `${minutes}:${String(rest).padStart(2, '0')}`;
}
