// openid-client: discovery, grant, introspection, revocation and a protected resource through one configuration.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as client from "openid-client";
import { GRANTED, headersOf, make, READ, UNKEPT, without, world } from "./world.js";

const ways = { client_secret_basic: client.ClientSecretBasic, client_secret_post: client.ClientSecretPost };

async function configured(of, how, algorithm = "oauth2") {
  const answers = [];
  const options = {
    algorithm,
    execute: [client.allowInsecureRequests],
    [client.customFetch]: async (address, init) => {
      const answer = await fetch(address, init);
      answers.push(answer.clone());
      return answer;
    },
  };
  const found = await client.discovery(new URL(world.issuer), of.client_id, undefined, how(of.client_secret), options);
  return { found, answers };
}

for (const algorithm of ["oauth2", "oidc"])
  for (const [way, how] of Object.entries(ways))
    test(`${way} gets a JWT from a server found by ${algorithm}, and calls the API with it`, async () => {
      const of = await make();
      const { found, answers } = await configured(of, how, algorithm);
      assert.equal(found.serverMetadata().issuer, world.issuer);
      const granted = await client.clientCredentialsGrant(found, { scope: READ, resource: world.audience });
      assert.deepEqual(without(granted, { access_token: "string" }), { ...GRANTED, token_type: "bearer" });
      assert.ok(granted.expiresIn() > 3500);
      assert.deepEqual(headersOf(answers.at(-1)), UNKEPT);
      const self = new URL(`${world.origin}/api/v1/token/self`);
      const who = await client.fetchProtectedResource(found, granted.access_token, self, "GET");
      assert.equal((await who.json()).id, of.id);
    });

test("a wrong secret by Basic is a challenge", async () => {
  const { found } = await configured({ ...(await make()), client_secret: "wrong" }, client.ClientSecretBasic);
  await assert.rejects(client.clientCredentialsGrant(found), (error) => {
    assert.ok(error instanceof client.WWWAuthenticateChallengeError);
    assert.equal(error.cause[0].scheme, "basic");
    return true;
  });
});

test("a wrong secret in the body is an error", async () => {
  const { found } = await configured({ ...(await make()), client_secret: "wrong" }, client.ClientSecretPost);
  await assert.rejects(client.clientCredentialsGrant(found), (error) => {
    assert.ok(error instanceof client.ResponseBodyError);
    assert.deepEqual([error.status, error.error], [400, "invalid_client"]);
    return true;
  });
});

test("it introspects and revokes", async () => {
  const { found } = await configured(await make(), client.ClientSecretBasic);
  const { found: backend } = await configured(world.backend, client.ClientSecretBasic);
  const granted = await client.clientCredentialsGrant(found);
  assert.equal((await client.tokenIntrospection(backend, granted.access_token)).active, true);
  await client.tokenRevocation(found, granted.access_token);
  assert.deepEqual(await client.tokenIntrospection(backend, granted.access_token), { active: false });
});

test("a revoked JWT is a challenge at the API", async () => {
  const { found } = await configured(await make(), client.ClientSecretBasic);
  const granted = await client.clientCredentialsGrant(found);
  await client.tokenRevocation(found, granted.access_token);
  const self = new URL(`${world.origin}/api/v1/token/self`);
  await assert.rejects(client.fetchProtectedResource(found, granted.access_token, self, "GET"), (error) => {
    assert.equal(error.status, 401);
    assert.equal(error.cause[0].scheme, "bearer");
    assert.equal(error.cause[0].parameters.error, "invalid_token");
    return true;
  });
});
