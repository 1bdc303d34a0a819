// `oidc-provider`, which is certified, as the identity provider of one desk. Arguments: its port, the desk's address.
// Lines on standard input are JSON: { "groups": […], "active": true } of the one person there is, from now on.

import { createInterface } from "node:readline";
import Provider from "oidc-provider";

const [port, desk] = process.argv.slice(2);
const API = "https://desk.example/api";
const person = { groups: ["hr"], active: true };
const client = { client_secret: "the-desks-secret", token_endpoint_auth_method: "client_secret_basic" };

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      ...client,
      client_id: "refdesk",
      redirect_uris: [`${desk}/auth/callback`],
      post_logout_redirect_uris: [`${desk}/`],
      backchannel_logout_uri: `${desk}/auth/backchannel-logout`,
      backchannel_logout_session_required: true,
      grant_types: ["authorization_code", "refresh_token"],
    },
    { ...client, client_id: "program", redirect_uris: [], response_types: [], grant_types: ["client_credentials"] },
  ],
  cookies: { keys: ["a-test-and-nothing-else"] },
  scopes: ["openid", "profile", "offline_access", "groups"],
  claims: { openid: ["sub"], profile: ["name"], groups: ["groups"] },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: async (_, asking) => asking.grantTypeAllowed("refresh_token"),
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    backchannelLogout: { enabled: true },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      getResourceServerInfo: () => ({ scope: "groups", audience: API, accessTokenFormat: "jwt", accessTokenTTL: 300 }),
    },
  },
  findAccount: async (_, id) => {
    if (!person.active) return undefined;
    return { accountId: id, claims: async () => ({ sub: id, name: "Ada Lovelace", groups: person.groups }) };
  },
});

createInterface({ input: process.stdin }).on("line", (line) => {
  Object.assign(person, JSON.parse(line));
  console.log("noted");
});
provider.listen(Number(port), "127.0.0.1", () => console.log("listening"));
