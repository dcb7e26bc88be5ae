import type { CommandModule } from '../cli.js';
import { configureCable } from '../cable.js';

export const command: CommandModule = {
  configure: (program, cli) => configureCable(program, cli, { up: true }),
};
