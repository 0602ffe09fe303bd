// What docs/resource-servers.md tells an Express API to do, run as it stands, on real JWTs and on forged ones.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import http from "node:http";
import { after, before, mock, test } from "node:test";
import { exportJWK, exportSPKI, generateKeyPair, SignJWT } from "jose";
import { GRANTED, grant, make, READ, world } from "./world.js";

const DOCUMENT = readFileSync(new URL("../../docs/resource-servers.md", import.meta.url), "utf8");
const [, SNIPPET] = /^```js\n\/\/ app\.js\n(.*?)^```$/ms.exec(DOCUMENT);
const HERE = "127.0.0.1";
const ELSEWHERE = "127.0.0.2";
const WELCOME = { tenant: world.tenant.external_id };
const CHALLENGES = {
  401: 'Bearer error="invalid_token"',
  403: 'Bearer error="insufficient_scope", scope="reports:read"',
};
const listening = [];
let number = 0;

after(() => listening.forEach((server) => server.close()));

const listen = (handler, ...address) =>
  new Promise((resolve) => {
    const server = http.createServer(handler).listen(0, ...address, () => resolve(server.address().port));
    listening.push(server);
  });

// The document's file for another issuer and audience, where it finds the packages that are installed here.
async function api(issuer, audience) {
  const folder = new URL("./node_modules/.cache/", import.meta.url);
  mkdirSync(folder, { recursive: true });
  const file = new URL(`app-${process.pid}-${++number}.mjs`, folder);
  const text = SNIPPET.replaceAll("https://tokens.example.com/e/acorn-production", issuer)
    .replaceAll("https://api.production.acorn.example", audience);
  assert.ok(text.includes(issuer) && text.includes(audience));
  writeFileSync(file, text);
  const port = await listen((await import(file)).app);
  return (bearer, localAddress = HERE) =>
    new Promise((resolve, reject) => {
      const headers = bearer ? { authorization: `Bearer ${bearer}` } : {};
      const asked = { host: HERE, port, path: "/reports", localAddress, headers, agent: false };
      const read = async (answer) => {
        const body = (await answer.toArray()).join("");
        const challenge = answer.headers["www-authenticate"];
        resolve({ status: answer.statusCode, challenge, body: body && JSON.parse(body) });
      };
      http.get(asked, read).on("error", reject);
    });
}

const answerOf = (status) => ({ status, challenge: CHALLENGES[status], body: status === 200 ? WELCOME : "" });

test("it lets in whom it should of those whom the server knows", async () => {
  const ask = await api(world.issuer, world.audience);
  const client = await make({ permissions: [READ, "reports:write"] });
  const good = await grant(client);
  const restricted = await grant(await make({ ip_allowlist: ["127.0.0.1/32", "::1/128"] }));
  assert.deepEqual(await ask(good), answerOf(200));
  assert.deepEqual(await ask(good.slice(0, -5) + "AAAAA"), answerOf(401));
  assert.deepEqual(await ask(client.client_secret), answerOf(401));
  assert.deepEqual(await ask((await make({ kind: "access_token" })).access_token), answerOf(401));
  assert.deepEqual(await ask(await grant(client, { scope: "reports:write" })), answerOf(403));
  assert.deepEqual(await ask(restricted), answerOf(200));
  assert.deepEqual(await ask(restricted, ELSEWHERE), answerOf(401));
  assert.deepEqual(await ask(""), { status: 401, challenge: "Bearer", body: "" });
  mock.timers.enable({ apis: ["Date"], now: Date.now() + (GRANTED.expires_in + 1) * 1000 });
  assert.deepEqual(await ask(good), answerOf(401));
  mock.timers.reset();
});

test("it lets in nobody whom a forger made", async (context) => {
  const [ours, other] = await Promise.all([1, 2].map(() => generateKeyPair("ES256", { extractable: true })));
  const rsa = await generateKeyPair("RS256");
  const publicKey = { ...(await exportJWK(ours.publicKey)), kid: "ours", use: "sig", alg: "ES256" };
  const jwks = (_, answer) =>
    answer.setHeader("content-type", "application/json").end(JSON.stringify({ keys: [publicKey] }));
  const issuer = `http://${HERE}:${await listen(jwks, HERE)}/e/x`;
  const audience = "https://api.example";
  const ask = await api(issuer, audience);
  const now = Math.floor(Date.now() / 1000);
  const usual = {
    iss: issuer, aud: audience, iat: now, exp: now + 3600, sub: "c", client_id: "c", jti: "j",
    scope: `apitokens:read ${READ}`, tenant: "t", tenant_external_id: world.tenant.external_id,
  };
  const sign = (claims, header, key = ours.privateKey) =>
    new SignJWT({ ...usual, ...claims })
      .setProtectedHeader({ alg: "ES256", kid: "ours", typ: "at+jwt", ...header })
      .sign(key);
  const base64 = (object) => Buffer.from(JSON.stringify(object)).toString("base64url");
  const symmetric = `${base64({ alg: "HS256", kid: "ours", typ: "at+jwt" })}.${base64(usual)}`;
  const secret = createHmac("sha256", await exportSPKI(ours.publicKey)).update(symmetric).digest("base64url");
  const cases = {
    "good": [await sign(), 200],
    "for several APIs": [await sign({ aud: ["https://b.example", audience] }), 200],
    "another API's": [await sign({ aud: "https://b.example" }), 401],
    "for no API": [await sign({ aud: undefined }), 401],
    "another issuer's": [await sign({ iss: "https://tokens.example/e/x" }), 401],
    "an issuer that begins alike": [await sign({ iss: `${issuer}y` }), 401],
    "expired": [await sign({ exp: now - 3600 }), 401],
    "without an end": [await sign({ exp: undefined }), 401],
    "a status list's type": [await sign({}, { typ: "statuslist+jwt" }), 401],
    "any JWT's type": [await sign({}, { typ: "JWT" }), 401],
    "another key under our kid": [await sign({}, {}, other.privateKey), 401],
    "an unknown kid": [await sign({}, { kid: "other" }, other.privateKey), 401],
    "its own key in the header": [await sign({}, { jwk: await exportJWK(other.publicKey) }, other.privateKey), 401],
    "another algorithm": [await sign({}, { alg: "RS256" }, rsa.privateKey), 401],
    "HS256 with the public key": [`${symmetric}.${secret}`, 401],
    "unsigned": [`${base64({ alg: "none", kid: "ours", typ: "at+jwt" })}.${base64(usual)}.`, 401],
    "a scope that begins alike": [await sign({ scope: "reports:read-all" }), 403],
    "a scope in other case": [await sign({ scope: "Reports:Read" }), 403],
    "no scope left": [await sign({ scope: "" }), 403],
    "from an allowed address": [await sign({ cidr: ["2001:db8::/32", "127.0.0.1/32"] }), 200],
    "from another address": [await sign({ cidr: ["2001:db8::/32", "127.0.0.1/32"] }), 401, ELSEWHERE],
    "from nowhere": [await sign({ cidr: [] }), 401],
    "not a JWT": ["a.b.c", 401],
  };
  for (const [name, [bearer, status, address]] of Object.entries(cases))
    await context.test(name, async () => assert.deepEqual(await ask(bearer, address), answerOf(status)));
});

test("it says 503 when the keys can't be had, and accuses nobody", async () => {
  const client = await make();
  const broken = await listen((_, answer) => answer.writeHead(500).end(), HERE);
  const ask = await api(`http://${HERE}:${broken}/e/x`, world.audience);
  assert.deepEqual(await ask(await grant(client)), { status: 503, challenge: undefined, body: "" });
});
