/** A set-up file that the plugin adds where files have VMs of their own: Vitest runs it for each, before that one. */
import { afterAll, beforeAll, beforeEach, inject } from 'vitest';
import { beginFile, beginTest, endFile } from './file-vms.js';

/** Milliseconds; none. What takes long says what it does, and `timeout` limits how long a guest may take. */
const NO_LIMIT = 0;

beforeAll(async () => beginFile(inject('vmctl:options')), NO_LIMIT);
beforeEach(async () => beginTest(inject('vmctl:options')), NO_LIMIT);
afterAll(endFile, NO_LIMIT);
