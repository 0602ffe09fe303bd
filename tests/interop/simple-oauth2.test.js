// simple-oauth2, with either way to send credentials and either way to encode them in Basic.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ClientCredentials } from "simple-oauth2";
import { GRANTED, make, READ, without, world } from "./world.js";

const configured = (of, options) =>
  new ClientCredentials({
    client: { id: of.client_id, secret: of.client_secret },
    auth: { tokenHost: world.origin, tokenPath: "/oauth2/token", revokePath: "/oauth2/revoke" },
    options,
  });

const WAYS = {
  "Basic, form-encoded": { authorizationMethod: "header", credentialsEncodingMode: "strict" },
  "Basic, raw": { authorizationMethod: "header", credentialsEncodingMode: "loose" },
  "the body": { authorizationMethod: "body" },
};
for (const [way, options] of Object.entries(WAYS)) {
  test(`by ${way} it gets a JWT, uses it and gives it back`, async () => {
    const of = await make();
    const access = await configured(of, options).getToken({ scope: READ, resource: world.audience });
    assert.ok(access.token.expires_at instanceof Date);
    const { expires_at, ...granted } = access.token;
    assert.deepEqual(without(granted, { access_token: "string" }), GRANTED);
    assert.equal(access.expired(), false);
    assert.equal(access.expired(3601), true);
    const ask = () =>
      fetch(`${world.origin}/api/v1/token/self`, { headers: { authorization: `Bearer ${access.token.access_token}` } });
    assert.equal((await (await ask()).json()).id, of.id);
    await access.revoke("access_token");
    assert.equal((await ask()).status, 401);
  });

  test(`by ${way} a wrong secret is refused`, async () => {
    const wrong = configured({ ...(await make()), client_secret: "wrong" }, options);
    await assert.rejects(wrong.getToken({}), (error) => {
      assert.equal(error.output.statusCode, options.authorizationMethod === "header" ? 401 : 400);
      assert.deepEqual(error.data.payload, {
        error: "invalid_client",
        error_description: "Unknown client or wrong secret.",
      });
      return true;
    });
  });
}
