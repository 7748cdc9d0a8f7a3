// The JSON forms of the calls of the registry.
//
// Made by clients/generate.py from crates/rpc/proto/anabranch/registry/v1/registry.proto: change that, and run it again.

import {
  type RecordShape,
  type Shape,
  boolean,
  choice,
  many,
  optional,
  quoted64,
  record,
  ref,
  text,
} from "../shape.js";

/** Something that matters to security. */
export interface Act {
  /** Who, in words. */
  who: string;
  /** What they did, and to what. */
  did: string;
  about: string;
  /** What came of it: `allowed`, `refused`, or a status. */
  result: string;
  /** How many times, at about this time; 0 means 1. */
  times: bigint;
}
export const Act: RecordShape<Act> = record(() => [
  ["who", "who", text(), true],
  ["did", "did", text(), true],
  ["about", "about", text(), true],
  ["result", "result", text(), true],
  ["times", "times", quoted64(), true],
]);

export interface FindRequest {
  category?: string | undefined;
  view?: string | undefined;
  service?: string | undefined;
}
export const FindRequest: RecordShape<FindRequest> = record(() => [
  ["category", "category", optional(text()), true],
  ["view", "view", optional(text()), true],
  ["service", "service", optional(text()), true],
]);

export interface FindResponse {
  /** Absent: no service has registered it. */
  registered?: Registered | undefined;
}
export const FindResponse: RecordShape<FindResponse> = record(() => [
  ["registered", "registered", optional(ref(() => Registered)), true],
]);

/** Who has it acts for the service. Keep it to yourself. */
export interface Lease {
  /** What proves it: it goes with each append, and is what is renewed and released. */
  token: string;
  /** The secret alone, for the next time that the service registers. */
  secret: string;
  /** Larger with each lease of the service. */
  id: bigint;
  /** In milliseconds, unless it is renewed. */
  expiresInMs: bigint;
  /**
   * What tokens of this log are sealed with, 64 digits of hexadecimal: a service that seals
   * with it gives tokens that every other one takes. Empty: the server has nothing to share.
   */
  tokenKey: string;
}
export const Lease: RecordShape<Lease> = record(() => [
  ["token", "token", text(), true],
  ["secret", "secret", text(), true],
  ["id", "id", quoted64(), true],
  ["expiresInMs", "expiresInMs", quoted64(), true],
  ["tokenKey", "tokenKey", text(), true],
]);

export type LeaseState =
  | "LEASE_STATE_UNSPECIFIED"
  | "LEASE_STATE_HELD"
  | "LEASE_STATE_EXPIRED"
  | "LEASE_STATE_RELEASED"
  | "LEASE_STATE_TAKEN";
export const LeaseState: Shape<LeaseState> = choice(["LEASE_STATE_UNSPECIFIED", "LEASE_STATE_HELD", "LEASE_STATE_EXPIRED", "LEASE_STATE_RELEASED", "LEASE_STATE_TAKEN"]);

export interface ListRequest {
}
export const ListRequest: RecordShape<ListRequest> = record(() => [
]);

export interface ListResponse {
  services: Registered[];
}
export const ListResponse: RecordShape<ListResponse> = record(() => [
  ["services", "services", many(ref(() => Registered)), true],
]);

/** A category that a service keeps to itself. */
export interface Private {
  category: string;
  /** The types of its events that others may read all the same. */
  openTypes: string[];
}
export const Private: RecordShape<Private> = record(() => [
  ["category", "category", text(), true],
  ["openTypes", "openTypes", many(text()), true],
]);

export interface RegisterRequest {
  service?: Service | undefined;
  /**
   * The secret of the new lease, of 32 to 128 of the characters A-Z a-z 0-9 . _ - ; empty: the
   * server makes one. The one of the lease before: takes over from it at once.
   */
  secret: string;
  /** How long the lease lasts if it is not renewed, in milliseconds: 500 to 300000; 0: 10000. */
  leaseMs: bigint;
}
export const RegisterRequest: RecordShape<RegisterRequest> = record(() => [
  ["service", "service", optional(ref(() => Service)), true],
  ["secret", "secret", text(), true],
  ["leaseMs", "leaseMs", quoted64(), true],
]);

export interface RegisterResponse {
  lease?: Lease | undefined;
}
export const RegisterResponse: RecordShape<RegisterResponse> = record(() => [
  ["lease", "lease", optional(ref(() => Lease)), true],
]);

/** A service that has registered, and how its lease is. */
export interface Registered {
  service?: Service | undefined;
  /** The id of its newest lease. */
  lease: bigint;
  state: LeaseState;
  /** How long the lease lasts yet, in milliseconds, if it is held. */
  expiresInMs: bigint;
  /** The service that has taken over from it, if one has. */
  takenBy: string;
  /** The id of the key by which it has registered; empty: callers are not asked for one. */
  key: string;
}
export const Registered: RecordShape<Registered> = record(() => [
  ["service", "service", optional(ref(() => Service)), true],
  ["lease", "lease", quoted64(), true],
  ["state", "state", ref(() => LeaseState), true],
  ["expiresInMs", "expiresInMs", quoted64(), true],
  ["takenBy", "takenBy", text(), true],
  ["key", "key", text(), true],
]);

export interface ReleaseRequest {
  /** Its token. */
  lease: string;
  /**
   * Whether what it owned is to have no owner from now on. Otherwise it stays the service's,
   * and nobody appends to it until the service, or another one that claims it, registers.
   */
  giveUp: boolean;
}
export const ReleaseRequest: RecordShape<ReleaseRequest> = record(() => [
  ["lease", "lease", text(), true],
  ["giveUp", "giveUp", boolean(), true],
]);

export interface ReleaseResponse {
}
export const ReleaseResponse: RecordShape<ReleaseResponse> = record(() => [
]);

export interface RenewRequest {
  /** Its token. */
  lease: string;
}
export const RenewRequest: RecordShape<RenewRequest> = record(() => [
  ["lease", "lease", text(), true],
]);

export interface RenewResponse {
  expiresInMs: bigint;
}
export const RenewResponse: RecordShape<RenewResponse> = record(() => [
  ["expiresInMs", "expiresInMs", quoted64(), true],
]);

export interface ReportRequest {
  /** At most 256. */
  acts: Act[];
}
export const ReportRequest: RecordShape<ReportRequest> = record(() => [
  ["acts", "acts", many(ref(() => Act)), true],
]);

export interface ReportResponse {
}
export const ReportResponse: RecordShape<ReportResponse> = record(() => [
]);

/** A service, as it describes itself. */
export interface Service {
  /** One to 200 of the characters A-Z a-z 0-9 . _ : - */
  name: string;
  /** Where it is asked, such as `http://127.0.0.1:4077`; empty: it is not to be asked. */
  address: string;
  /** The program that runs it, and its version, for people. */
  program: string;
  version: string;
  /**
   * The categories that it alone appends to: its entities, and the journals of its processes
   * and sagas.
   */
  owns: string[];
  /** The views that it answers. */
  views: string[];
  /** The categories of other services that it follows. */
  reads: string[];
  /** The categories of other services that it sends commands to. */
  sends: string[];
  /**
   * Of the categories that it owns, those that it keeps to itself: who shows its lease reads
   * them, operators do, and nobody else. It stays so while the service is away.
   */
  private: Private[];
}
export const Service: RecordShape<Service> = record(() => [
  ["name", "name", text(), true],
  ["address", "address", text(), true],
  ["program", "program", text(), true],
  ["version", "version", text(), true],
  ["owns", "owns", many(text()), true],
  ["views", "views", many(text()), true],
  ["reads", "reads", many(text()), true],
  ["sends", "sends", many(text()), true],
  ["private", "private", many(ref(() => Private)), true],
]);
