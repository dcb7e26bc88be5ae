/** The public API of vmctl. */
export { ERROR_CODES, type ErrorCode, VmctlError, type VmctlErrorJson } from './errors.js';
export type { EventListener, Step, UpStep, VmEvent } from './model/event.js';
