import { Argument } from 'commander';
import { VmctlError } from '../../errors.js';
import { COMPLETION_SCRIPTS } from '../completion/scripts.js';
import type { CommandModule } from '../cli.js';

export const command: CommandModule = {
  configure(program, cli) {
    const shells = Object.keys(COMPLETION_SCRIPTS);
    program
      .addArgument(new Argument('<shell>', 'the shell').choices(shells))
      .addHelpText(
        'after',
        `
To have it in every new shell:
  bash  echo 'source <(vmctl completion bash)' >> ~/.bashrc
  zsh   echo 'source <(vmctl completion zsh)' >> ~/.zshrc    (behind compinit)
  fish  vmctl completion fish > ~/.config/fish/completions/vmctl.fish`,
      )
      .action((shell: string) => {
        for (const [name, script] of Object.entries(COMPLETION_SCRIPTS)) {
          if (name !== shell) continue;
          cli.stdout.write(script);
          return;
        }
        throw new VmctlError('USAGE', `there is no completion for "${shell}"`);
      });
  },
};
