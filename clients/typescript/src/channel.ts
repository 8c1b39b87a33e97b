/** How the package connects: credentials, tokens, and the options of the channel. */

import * as grpc from "@grpc/grpc-js";

import { serviceConfig } from "./gen/service_config.js";

/** The version of the package, as in package.json. */
export const VERSION = "0.1.0";

/** A bearer token, or a function that is asked for one before each call and each resumed call of a stream. */
export type Token = string | (() => string | Promise<string>);

/**
 * False for plain text, true for TLS with the roots of Node.js, the PEM of an authority, or credentials of
 * grpc-js.
 */
export type Tls = boolean | Uint8Array | grpc.ChannelCredentials;

/** The credentials for `tls`: by default plain text to this machine, and TLS to every other. */
export function credentialsFor(tls: Tls | undefined, loopback: boolean): grpc.ChannelCredentials {
  if (tls === undefined) return credentialsFor(!loopback, loopback);
  if (typeof tls === "boolean") return tls ? grpc.credentials.createSsl() : grpc.credentials.createInsecure();
  if (tls instanceof Uint8Array) return grpc.credentials.createSsl(Buffer.from(tls));
  if (typeof tls?._isSecure === "function") return tls;
  throw new TypeError("tls must be a boolean, an authority in PEM as bytes, or ChannelCredentials");
}

/** The options of the channel. Those of the user take precedence. */
export function channelOptions(
  loopback: boolean,
  userAgent = "",
  more: grpc.ChannelOptions = {},
): grpc.ChannelOptions {
  return {
    // A proxy of the environment would get the token, and cannot reach this machine.
    ...(loopback && { "grpc.enable_http_proxy": 0 }),
    "grpc.primary_user_agent": `hypersender-contact-node/${VERSION} ${userAgent}`.trim(),
    "grpc.service_config": serviceConfig,
    // Otherwise grpc-js asks DNS for a TXT record with another configuration.
    "grpc.service_config_disable_resolution": 1,
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 20_000,
    // grpc-js has no health checks, whose stream would otherwise keep the PINGs going between calls.
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 2_000,
    ...more,
  };
}

/**
 * A token without the white space around it, such as the last line break of a file.
 *
 * @throws TypeError without the token.
 */
export function checkToken(token: unknown): string {
  if (typeof token !== "string") throw new TypeError("token must be text, or a function that returns text");
  const trimmed = token.trim();
  if (trimmed === "") throw new TypeError("token is empty");
  if (!/^[\x21-\x7e]+$/.test(trimmed)) throw new TypeError("token has characters that are not visible ASCII");
  return trimmed;
}
