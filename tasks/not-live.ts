/** The refusal of what can only be done to a VM that runs, with the way there. */
import { VmctlError } from '../src/errors.js';
import type { StoppedVm, SuspendedVm } from '../src/model/vm.js';

/** `VM_STATE`; `verb` is the command that was given. */
export function notLive({ handle: { name }, state }: StoppedVm | SuspendedVm, verb: string): VmctlError {
  const next = state === 'stopped' ? `Start it with: vmctl start ${name}` : `Continue it with: vmctl resume ${name}`;
  return new VmctlError('VM_STATE', `cannot ${verb} VM "${name}": it is ${state}`, {
    hint: next,
    fields: { vm: name, state, transition: verb },
  });
}
