/** Settings for commands that tell a wrong one beside everything else that is wrong. */
import { VmctlError } from '../errors.js';
import type { Settings } from '../settings/keys.js';
import { type SettingsSources, loadSettings } from '../settings/load.js';

/** What is set; or, where that is invalid, nothing and what is wrong with it. */
export async function settingsOrProblem(
  sources: SettingsSources,
): Promise<{ readonly settings: Settings; readonly problem: VmctlError | null }> {
  try {
    return { settings: await loadSettings(sources), problem: null };
  } catch (error) {
    if (!(error instanceof VmctlError) || error.code !== 'CONFIG_INVALID') throw error;
    return { settings: {}, problem: error };
  }
}
