/**
 * Reads a target: checks it before gRPC would fail with a less clear error, and tells whether it is on this
 * machine.
 */

import { isIPv4, isIPv6 } from "node:net";

/** A target that gRPC can dial. */
export interface Target {
  /** The target with its scheme. */
  dials: string;
  /** Whether every address is on this machine, so that plain text does not cross a network. */
  loopback: boolean;
}

const FORM = 'use "host:port", or one of the schemes dns, ipv4, ipv6, unix and xds';

/**
 * Reads a target. Text without a scheme is a name for DNS.
 *
 * @throws TypeError without the text of the target, which may contain a password.
 */
export function parseTarget(text: string): Target {
  if (typeof text !== "string" || text === "") throw new TypeError(`target is missing: ${FORM}`);
  const scheme = /^(?:(dns|ipv4|ipv6|unix|xds):|([a-z][a-z0-9+.-]*):\/\/)/i.exec(text);
  if (scheme?.[2]) throw new TypeError(`target has a scheme that gRPC does not know: ${FORM}`);
  const rest = text.slice(scheme?.[0].length ?? 0);
  const kind = scheme?.[1]?.toLowerCase();
  if (kind === "unix" || kind === "xds") return { dials: text, loopback: kind === "unix" };
  if (kind === "ipv4" || kind === "ipv6") {
    return { dials: text, loopback: rest.split(",").map(hostOf).every(isLoopback) };
  }
  const [, authority, endpoint = text] = /^(?:\/\/([^/]*)\/)?(.*)$/s.exec(kind ? rest : `///${text}`) ?? [];
  const loopback = isLoopback(hostOf(endpoint)) && !authority;
  return { dials: kind ? text : `dns:///${text}`, loopback };
}

/** The host of `host:port`, without brackets. */
function hostOf(endpoint: string): string {
  const bad = (part: string) => new TypeError(`target has ${part}: ${FORM}`);
  const parts = /^(?:\[([0-9a-f:.]+)\]|([\w.-]+))(?::([^:\s/@]*))?$/i.exec(endpoint);
  if (!parts || endpoint.endsWith("\n")) throw bad("no valid host");
  const [, address, name, port] = parts;
  if (address !== undefined && !isIPv6(address)) throw bad("a host in brackets that is no IPv6 address");
  const valid = /^\d{1,5}$/.test(port ?? "") && Number(port) >= 1 && Number(port) <= 65_535;
  if (!valid) throw bad("no port from 1 to 65535");
  return address ?? name ?? "";
}

function isLoopback(host: string): boolean {
  if (isIPv4(host)) return host.startsWith("127.");
  if (isIPv6(host)) return new URL(`http://[${host}]`).hostname === "[::1]";
  return /^localhost\.?$/i.test(host);
}
