// Who is calling, and what they may do: asked once, so that nothing is offered that would be refused.

import { requestJson } from "./api.js";

let asked = null;

export function me() {
  asked ??= requestJson("/api/me").catch((problem) => {
    asked = null; // asked again by whoever wants to know next
    throw problem;
  });
  return asked;
}

/** Whether an action of `access/policy.py` is open to the caller; false where that cannot be found out. */
export async function may(action) {
  return (await me().catch(() => ({ may: [] }))).may.includes(action);
}
