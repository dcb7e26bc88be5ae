import type * as client from './client.js' with { 'resolution-mode': 'import' };

declare const exported: typeof client;
export = exported;
