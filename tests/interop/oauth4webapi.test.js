// oauth4webapi: the strictest reader of answers there is, by its own account "low-level".

import assert from "node:assert/strict";
import { before, test } from "node:test";
import * as oauth from "oauth4webapi";
import { api, CHALLENGE, claimsOf, GRANTED, headersOf, make, READ, UNKEPT, VARYING, without, world } from "./world.js";

const http = { [oauth.allowInsecureRequests]: true };
let server, client;

before(async () => {
  const found = await oauth.discoveryRequest(new URL(world.issuer), { ...http, algorithm: "oauth2" });
  server = await oauth.processDiscoveryResponse(new URL(world.issuer), found);
  client = await make();
});

async function grant(how, parameters = {}, of = client) {
  const answer = await oauth.clientCredentialsGrantRequest(server, of, how, new URLSearchParams(parameters), http);
  const seen = answer.clone();
  return { seen, granted: await oauth.processClientCredentialsResponse(server, of, answer) };
}

const basic = () => oauth.ClientSecretBasic(client.client_secret);

for (const algorithm of ["oauth2", "oidc"]) {
  test(`it discovers the server by the address of ${algorithm}`, async () => {
    const found = await oauth.discoveryRequest(new URL(world.issuer), { ...http, algorithm });
    const seen = found.clone();
    const described = await oauth.processDiscoveryResponse(new URL(world.issuer), found);
    assert.equal(described.token_endpoint, `${world.origin}/oauth2/token`);
    assert.deepEqual(without(headersOf(seen), { etag: "string" }), {
      "access-control-allow-origin": "*",
      "cache-control": "public, max-age=300",
      "content-type": "application/json",
    });
  });
}

const WAYS = {
  client_secret_basic: { how: oauth.ClientSecretBasic, status: 401, more: { "www-authenticate": CHALLENGE } },
  client_secret_post: { how: oauth.ClientSecretPost, status: 400, more: {} },
};
for (const [way, { how, status, more }] of Object.entries(WAYS)) {
  test(`${way} gets a JWT`, async () => {
    const { granted, seen } = await grant(how(client.client_secret));
    // The library writes the type in small letters, as it found it in any case.
    assert.deepEqual(without(granted, { access_token: "string" }), { ...GRANTED, token_type: "bearer" });
    assert.deepEqual(without(await seen.json(), { access_token: "string" }), GRANTED);
    assert.deepEqual(headersOf(seen), UNKEPT);
  });

  test(`${way} with a wrong secret is refused as RFC 6749 has it`, async () => {
    const answer = await oauth.clientCredentialsGrantRequest(server, client, how("wrong"), {}, http);
    const said = { error: "invalid_client", error_description: "Unknown client or wrong secret." };
    assert.equal(answer.status, status);
    assert.deepEqual(headersOf(answer), { ...UNKEPT, ...more });
    await assert.rejects(oauth.processClientCredentialsResponse(server, client, answer), (error) => {
      if (status === 401) {
        assert.ok(error instanceof oauth.WWWAuthenticateChallengeError);
        const [challenge] = error.cause;
        assert.equal(challenge.scheme, "basic");
        assert.deepEqual({ ...challenge.parameters }, { realm: "token endpoint", charset: "UTF-8" });
      } else {
        assert.ok(error instanceof oauth.ResponseBodyError);
        assert.deepEqual(error.cause, said);
      }
      return true;
    });
  });
}

// The library writes "Ed25519" into the header where the key is for EdDSA (RFC 9864).
const KEYS = {
  ES256: { name: "ECDSA", namedCurve: "P-256" },
  RS256: {
    name: "RSASSA-PKCS1-v1_5", modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: "SHA-256",
  },
  Ed25519: { name: "Ed25519" },
};
for (const algorithm of Object.keys(KEYS)) {
  test(`private_key_jwt with ${algorithm} gets a JWT, and no second one for the same assertion`, async () => {
    const keys = await crypto.subtle.generateKey(KEYS[algorithm], true, ["sign", "verify"]);
    const { kty, crv, x, y, n, e } = await crypto.subtle.exportKey("jwk", keys.publicKey);
    const keyed = await make({ public_key: JSON.stringify({ kty, crv, x, y, n, e }) });
    assert.equal(keyed.client_secret, undefined);
    let assertion;
    const how = (as, by, body, headers) => {
      if (assertion === undefined) return oauth.PrivateKeyJwt(keys.privateKey)(as, by, body, headers);
      for (const [name, value] of assertion) body.set(name, value);
    };
    const sent = { ...http, [oauth.customFetch]: (address, options) => {
      assertion = [...options.body].filter(([name]) => name !== "grant_type");
      return fetch(address, options);
    } };
    const ask = () => oauth.clientCredentialsGrantRequest(server, keyed, how, {}, sent);
    const granted = await oauth.processClientCredentialsResponse(server, keyed, await ask());
    assert.deepEqual(without(granted, { access_token: "string" }), { ...GRANTED, token_type: "bearer" });
    await assert.rejects(oauth.processClientCredentialsResponse(server, keyed, await ask()), (error) => {
      assert.equal(error.cause.error, "invalid_client");
      return true;
    });
  });
}

test("a narrower scope narrows", async () => {
  const wide = await make({ permissions: [READ, "reports:write"] });
  const { granted } = await grant(oauth.ClientSecretBasic(wide.client_secret), { scope: "reports:write" }, wide);
  assert.equal(granted.scope, "reports:write");
});

const REFUSED = {
  "more scope than it has": [{ scope: "reports:write" }, "invalid_scope"],
  "an API that is not the environment's": [{ resource: "https://unknown.example" }, "invalid_target"],
  "a tenant that is not its own": [{ tenant: "cedar-001" }, "invalid_request"],
};
for (const [what, [parameters, error]] of Object.entries(REFUSED)) {
  test(`asking for ${what} is refused`, async () => {
    await assert.rejects(grant(basic(), parameters), (raised) => {
      assert.equal(raised.cause.error, error);
      assert.equal(raised.status, 400);
      return true;
    });
  });
}

test("a resource indicator is the audience, and the JWT is one of RFC 9068", async () => {
  const { granted } = await grant(basic(), { resource: world.audience });
  const headers = { authorization: `Bearer ${granted.access_token}` };
  const request = new Request("https://api.example/reports", { headers });
  const claims = await oauth.validateJwtAccessToken(server, request, world.audience, http);
  assert.deepEqual(without(claims, VARYING), claimsOf(client));
});

async function introspect(token) {
  const backend = { client_id: world.backend.client_id };
  const how = oauth.ClientSecretBasic(world.backend.client_secret);
  const answer = await oauth.introspectionRequest(server, backend, how, token, http);
  assert.deepEqual(headersOf(answer), UNKEPT);
  return oauth.processIntrospectionResponse(server, backend, answer);
}

test("introspection tells what a JWT may do, and after its revocation nothing", async () => {
  const { granted } = await grant(basic());
  const { gen, ...claims } = claimsOf(client);
  const told = await introspect(granted.access_token);
  assert.deepEqual(without(told, { iat: "number", exp: "number", jti: "string" }), {
    active: true, token_type: "Bearer", ...claims,
  });
  const answer = await oauth.revocationRequest(server, client, basic(), granted.access_token, http);
  assert.deepEqual(headersOf(answer), UNKEPT);
  assert.equal(await oauth.processRevocationResponse(answer), undefined);
  assert.deepEqual(await introspect(granted.access_token), { active: false });
});

test("introspection tells what an access token may do, and after its deletion nothing", async () => {
  const token = await make({ kind: "access_token" });
  const told = await introspect(token.access_token);
  assert.deepEqual([told.active, told.scope, told.tenant_external_id], [true, READ, world.tenant.external_id]);
  await api("DELETE", `tokens/${token.id}`);
  assert.deepEqual(await introspect(token.access_token), { active: false });
});

test("introspection without a right to it is refused", async () => {
  const answer = await oauth.introspectionRequest(server, client, basic(), "anything", http);
  assert.equal(answer.status, 403);
});
