// The server that the runner started, and its vendor's backend, which makes tokens over the API.

import assert from "node:assert/strict";

export const world = JSON.parse(process.env.INTEROP);
export const READ = "reports:read";
export const UNKEPT = { "content-type": "application/json", "cache-control": "no-store", pragma: "no-cache" };
export const CHALLENGE = 'Basic realm="token endpoint", charset="UTF-8"';

// What is in every answer, of a page as of an API, and what HTTP itself adds.
const EVERYWHERE = [
  "connection", "content-length", "content-security-policy", "cross-origin-opener-policy", "date", "keep-alive",
  "referrer-policy", "server", "x-content-type-options", "x-frame-options", "x-request-id",
];
let made = 0;

export const headersOf = (response) =>
  Object.fromEntries([...response.headers].filter(([name]) => !EVERYWHERE.includes(name)));

export async function api(method, path, body) {
  const response = await fetch(`${world.origin}/api/v1/${path}`, {
    method,
    headers: { authorization: `Bearer ${world.backend.access_token}`, "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
  assert.ok(response.ok, `${method} ${path}: ${response.status}`);
  return response.status === 204 ? null : response.json();
}

// A client of one tenant's that may read reports, if nothing else is asked.
export const make = (asked = {}) =>
  api("POST", "tokens", {
    name: `Interop ${process.pid} ${++made}`,
    kind: "client_credentials",
    tenant: world.tenant.external_id,
    permissions: [READ],
    ...asked,
  });

// Takes out of an answer what differs each time; each must be there, and of that type.
export function without(body, types) {
  const rest = { ...body };
  for (const [name, type] of Object.entries(types)) {
    assert.equal(typeof rest[name], type, `${name} is a ${typeof rest[name]}`);
    delete rest[name];
  }
  return rest;
}

export const GRANTED = { token_type: "Bearer", expires_in: 3600, scope: READ };

// The claims of such a client's JWT, but for the times, `jti` and `status`.
export const claimsOf = (client, asked = {}) => ({
  iss: world.issuer,
  aud: world.audience,
  sub: client.client_id,
  client_id: client.client_id,
  scope: READ,
  env: world.environment,
  tenant: world.tenant.id,
  tenant_external_id: world.tenant.external_id,
  gen: 0,
  ...asked,
});
export const VARYING = { iat: "number", exp: "number", jti: "string", status: "object" };

// A JWT for that client.
export async function grant(client, asked = {}) {
  const authorization = `Basic ${btoa(`${client.client_id}:${client.client_secret}`)}`;
  const body = new URLSearchParams({ ...asked, grant_type: "client_credentials" });
  const answer = await fetch(`${world.origin}/oauth2/token`, { method: "POST", headers: { authorization }, body });
  assert.equal(answer.status, 200);
  return (await answer.json()).access_token;
}
