/** A set-up file that the plugin adds for `isolate: 'file'`: Vitest runs it for each test file, before that one. */
import { afterAll, beforeAll, inject } from 'vitest';
import { beginFile, endFile } from './file-vms.js';

/** Milliseconds; none. What takes long says what it does, and `timeout` limits how long a guest may take. */
const NO_LIMIT = 0;

beforeAll(async () => beginFile(inject('vmctl:options')), NO_LIMIT);
afterAll(endFile, NO_LIMIT);
