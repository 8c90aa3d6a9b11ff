// The users of one region during a drill: requests arrive at a stated rate, however slow the answers are.
//
// BASE_URL, REGION, RATE (a second), SECONDS, VUS, RUN (the prefix of every name), PLACES (JSON: what is read).
// Each request leaves one line of JSON: see samples.py, which reads them. What a slot asks for follows from
// its number, so that a slot that nobody was free for is known by its kind too.

import exec from "k6/execution";
import http from "k6/http";
import { sleep } from "k6";

const BASE_URL = __ENV.BASE_URL || __ENV.VIRAL_ANYCAST_URL;
const RATE = Number(__ENV.RATE);
const VUS = Number(__ENV.VUS);
const PLACES = JSON.parse(__ENV.PLACES);
const KINDS = JSON.parse(__ENV.KINDS);
const TIMEOUT = "20s"; // longer than any answer is held
const TIMED_OUT = 1050; // k6's word for it; by then its user has been led elsewhere
const RETRY_AFTER_S = 3; // by then the users of a lost edge are led to another

export const options = {
  discardResponseBodies: false,
  scenarios: {
    open: {
      executor: "constant-arrival-rate",
      rate: Math.round(RATE * 60), // a whole number, as k6 wants it
      timeUnit: "1m",
      duration: `${__ENV.SECONDS}s`,
      preAllocatedVUs: VUS,
      maxVUs: VUS,
      gracefulStop: "45s",
    },
  },
};

function ask(kind, name) {
  const params = { timeout: TIMEOUT, headers: {}, tags: { name: kind } };
  if (kind === "write") {
    params.headers["content-type"] = "application/json";
    params.headers["idempotency-key"] = name;
    return http.post(`${BASE_URL}/api/organizations`, JSON.stringify({ name }), params);
  }
  if (kind === "read-strong") {
    params.headers["viral-consistency"] = "strong";
  }
  return http.get(BASE_URL + PLACES[Math.floor(Math.random() * PLACES.length)], params);
}

function reason(answer) {
  if (answer.status === 0) {
    return `${answer.error_code}`;
  }
  const problem = /"urn:viral-engine:problem:([a-z-]+)"/.exec(answer.body || "");
  return problem ? problem[1] : (answer.body || "").slice(0, 6);
}

export default function () {
  const began = exec.scenario.startTime;
  const sent = Date.now() - began;
  const slot = Math.round((sent * RATE) / 1000);
  const kind = KINDS[slot % KINDS.length];
  // Not after its slot: of two that began late one may be taken for the other's.
  const name = `${__ENV.RUN}-${__ENV.REGION}-${exec.scenario.iterationInTest}`;
  const wanted = kind === "write" ? 201 : 200;
  const first = ask(kind, name);
  const firstEnded = Date.now() - began;
  let last = first;
  if (first.status === 0) {
    if (first.error_code !== TIMED_OUT) {
      sleep(RETRY_AFTER_S);
    }
    last = ask(kind, name);
  }
  const good = first.status === wanted;
  console.log(JSON.stringify({
    began,
    slot,
    kind,
    sent,
    ended: firstEnded,
    ok: good,
    status: first.status,
    reason: good ? "" : reason(first),
    served: first.headers["Viral-Region"] || "",
    // The id that an edge gives to a request ends with the edge's region.
    edge: (first.headers["Fly-Request-Id"] || "").split("-").pop(),
    retried: last !== first,
    at_last: last.status === wanted,
    name: kind === "write" ? name : "",
  }));
}
