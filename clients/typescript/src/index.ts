/**
 * Looks up WhatsApp profile pictures through hypersender-grpc.
 *
 * @module
 */

export type { Tls, Token } from "./channel.js";
export { ContactClient, type ContactClientOptions, createContactClient } from "./client.js";
export { ContactError } from "./errors.js";
export { Reason } from "./gen/reason.js";
export type { Picture, Result, Results } from "./picture.js";
export type { BatchOptions, CallOptions, Progress, StreamOptions } from "./request.js";
