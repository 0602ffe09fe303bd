// Who reads JWTs offline: jose by the JWKS, and @sd-jwt/jwt-status-list whether one was ended.

import assert from "node:assert/strict";
import { setTimeout as pass } from "node:timers/promises";
import { test } from "node:test";
import { getListFromStatusListJWT, getStatusListFromJWT } from "@sd-jwt/jwt-status-list";
import { createRemoteJWKSet, jwtVerify } from "jose";
import { api, claimsOf, grant, headersOf, make, VARYING, without, world } from "./world.js";

const keys = createRemoteJWKSet(new URL(`${world.issuer}/jwks.json`));
const VALID = 0;
const INVALID = 1;
// Where the answer of a list may be kept for 15 s and what it was made from for 5 s, 30 s are enough for everybody.
const BOUND = 30_000;
// One of the server's processes may know before another, which shows what it has until it is that old.
const KEPT = 5_000;

test("jose verifies a JWT by the remote JWKS", async () => {
  const client = await make();
  const { payload, protectedHeader } = await jwtVerify(await grant(client), keys, {
    issuer: world.issuer, audience: world.audience, typ: "at+jwt", algorithms: ["ES256"],
  });
  assert.deepEqual(without(payload, VARYING), claimsOf(client));
  assert.deepEqual(without(protectedHeader, { kid: "string" }), { alg: "ES256", typ: "at+jwt" });
});

test("jose refuses a status list where an access token belongs", async () => {
  const { uri } = getStatusListFromJWT(await grant(await make()));
  const list = await (await fetch(uri)).text();
  const refusal = { code: "ERR_JWT_CLAIM_VALIDATION_FAILED", claim: "typ" };
  await assert.rejects(jwtVerify(list, keys, { typ: "at+jwt" }), refusal);
});

async function statusOf({ uri, idx }) {
  const answer = await fetch(uri, { headers: { accept: "application/statuslist+jwt" } });
  const kept = Number(/max-age=(\d+)/.exec(answer.headers.get("cache-control"))[1]);
  const headers = without(headersOf(answer), { etag: "string" });
  delete headers["content-encoding"];
  assert.deepEqual(headers, {
    "access-control-allow-origin": "*",
    "cache-control": `public, max-age=${kept}`,
    "content-type": "application/statuslist+jwt",
    vary: "Accept-Encoding",
  });
  assert.ok(kept <= 15);
  const list = await answer.text();
  const { payload } = await jwtVerify(list, keys, {
    issuer: world.issuer, subject: uri, typ: "statuslist+jwt", algorithms: ["ES256"],
    requiredClaims: ["exp", "iat", "ttl"],
  });
  assert.ok(payload.ttl <= 15);
  return getListFromStatusListJWT(list).getStatus(idx);
}

test("a token is valid in its list, and within 30 s of being disabled it is not, nor when enabled again", async () => {
  const [client, other] = [await make(), await make()];
  const [place, beside] = [getStatusListFromJWT(await grant(client)), getStatusListFromJWT(await grant(other))];
  assert.deepEqual([await statusOf(place), await statusOf(beside)], [VALID, VALID]);
  await api("POST", `tokens/${client.id}/disable`);
  const until = Date.now() + BOUND;
  while ((await statusOf(place)) !== INVALID && Date.now() < until) await pass(500);
  await pass(KEPT);
  assert.deepEqual([await statusOf(place), await statusOf(beside)], [INVALID, VALID]);
  await api("POST", `tokens/${client.id}/enable`);
  const anew = getStatusListFromJWT(await grant(client));
  assert.notEqual(anew.idx, place.idx);
  assert.deepEqual([await statusOf(place), await statusOf(anew)], [INVALID, VALID]);
});
