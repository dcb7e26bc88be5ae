/** The public API of vmctl. */
export { attach } from './api/attach.js';
export type { Duration } from './api/duration.js';
export { ExecError, type ExecResult, UpError, type UpFailure } from './api/errors.js';
export { type VmsContext, tasks } from './api/tasks.js';
export type {
  AttachedFleet,
  AttachedFleetMembers,
  Fleet,
  FleetConnection,
  FleetMembers,
  ProjectOptions,
  UpOptions,
  VmConnection,
} from './api/types.js';
export type {
  AnyVm,
  CopyOptions,
  CopyResult,
  ExecOptions,
  GuestProcess,
  LogOptions,
  ReadyStatus,
  RebootOptions,
  RunningVm,
  SavedVm,
  SshDetails,
  StoppedVm,
  SuspendedVm,
  VmSnapshot,
  VmStatus,
  WaitCondition,
  WaitOptions,
} from './api/vm-types.js';
export { type DownOptions, type OpenedFile, type UpPlan, down, open, plan, up } from './api/up.js';
export { ERROR_CODES, type ErrorCode, VmctlError, type VmctlErrorJson } from './errors.js';
export type { Activity, EventListener, Step, UpStep, VmEvent, VmEventBody } from './model/event.js';
export type { LanPlace } from './model/lan.js';
export type { Change, PlannedVm, UnplannedVm, UpAction } from './model/plan.js';
export type { Nic } from './model/vm.js';
export type { VmSpec } from './model/spec.js';
export { type VmctlConfig, defineConfig } from './settings/define.js';
export type {
  CloudInitOptions,
  HttpCondition,
  ProvisionStepDeclaration,
  ReadyOptions,
  SshOptions,
  TapNetworkDeclaration,
  UserNetworkDeclaration,
  VmDeclaration,
} from './vmfile/declaration.js';
export type { Diagnostic, DiagnosticJson } from './vmfile/diagnostic.js';
export { VmFileError } from './vmfile/error.js';
