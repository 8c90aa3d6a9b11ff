// Open-loop load on the task service: requests arrive at a stated rate, however slow the answers are.
//
//   k6 run -e BASE_URL=http://... -e REGION=lhr tests/load/k6-basic-load.js
//
// BASE_URL     where to send requests (http://127.0.0.1:8080)
// REGION       where the users are; tags every figure ("local")
// RATE         requests per second, reads and writes together (50)
// DURATION     how long (30s)
// WRITE_RATIO  the share of writes, 0 to 1 (0.1)
// SUMMARY      a file for the figures as JSON; without it they are only printed
// P95_READ_MS, P95_WRITE_MS, MAX_FAILED   thresholds (500, 2000, 0.01)
//
// An iteration that was dropped because all users were busy is a failed request, not a missing one.

import { check } from "k6";
import exec from "k6/execution";
import http from "k6/http";
import { Counter, Rate, Trend } from "k6/metrics";

const BASE_URL = (__ENV.BASE_URL || "http://127.0.0.1:8080").replace(/\/+$/, "");
const REGION = __ENV.REGION || "local";
const RATE = Number(__ENV.RATE || 50);
const DURATION = __ENV.DURATION || "30s";
const WRITE_RATIO = Number(__ENV.WRITE_RATIO || 0.1);

const read = new Trend("read_ms", true);
const write = new Trend("write_ms", true);
const failed = new Rate("failed");
const readsServedBy = new Counter("reads_served_by");
const writesServedBy = new Counter("writes_served_by");

// k6 keeps figures by tag only where a threshold names the tag: these always hold.
const REGIONS = (__ENV.REGIONS || "iad,lhr,ams,cdg,fra,arn,dfw,ewr,gru,jnb,lax,nrt,ord,sin,sjc,syd,yyz,bom")
  .split(",");
const byRegion = {};
for (const region of REGIONS) {
  byRegion[`reads_served_by{served:${region}}`] = ["count>=0"];
  byRegion[`writes_served_by{served:${region}}`] = ["count>=0"];
}

export const options = {
  tags: { region: REGION },
  summaryTrendStats: ["count", "avg", "p(50)", "p(95)", "p(99)", "max"],
  scenarios: {
    open: {
      executor: "constant-arrival-rate",
      rate: RATE,
      timeUnit: "1s",
      duration: DURATION,
      // Enough users to keep the rate while every answer takes ten seconds.
      preAllocatedVUs: Math.min(RATE, 100),
      maxVUs: Math.max(RATE * 10, 20),
    },
  },
  thresholds: {
    read_ms: [`p(95)<${__ENV.P95_READ_MS || 500}`],
    write_ms: [`p(95)<${__ENV.P95_WRITE_MS || 2000}`],
    failed: [`rate<${__ENV.MAX_FAILED || 0.01}`],
    dropped_iterations: [`count<${Math.max(1, RATE * 0.1)}`],
    ...byRegion,
  },
};

const JSON_BODY = { headers: { "content-type": "application/json" } };

function create(title) {
  return http.post(`${BASE_URL}/api/tasks`, JSON.stringify({ title }), {
    ...JSON_BODY,
    tags: { name: "create" },
  });
}

// Some tasks to read, made before the clock starts.
export function setup() {
  const places = [];
  for (let number = 0; number < 20; number += 1) {
    const answer = create(`${REGION} before ${number}`);
    if (answer.status === 201) {
      places.push(answer.headers["Location"]);
    }
  }
  if (places.length === 0) {
    exec.test.abort(`${BASE_URL} takes no tasks: nothing to measure`);
  }
  return { places };
}

export default function ({ places }) {
  const writes = Math.random() < WRITE_RATIO;
  const place = places[Math.floor(Math.random() * places.length)];
  const answer = writes
    ? create(`${REGION} ${exec.scenario.iterationInTest}`)
    : http.get(BASE_URL + place, { tags: { name: "read" } });
  const wanted = writes ? 201 : 200;
  const good = check(answer, {
    [writes ? "a write answers 201" : "a read answers 200"]: ({ status }) => status === wanted,
    "the answer names its region": ({ headers }) => Boolean(headers["Viral-Region"]),
  });
  failed.add(!good);
  (writes ? write : read).add(answer.timings.duration);
  (writes ? writesServedBy : readsServedBy).add(1, {
    served: answer.headers["Viral-Region"] || "nobody",
  });
}

function figures(metric) {
  const values = metric ? metric.values : {};
  return {
    count: values.count || 0,
    p50_ms: values["p(50)"] ?? null,
    p95_ms: values["p(95)"] ?? null,
    p99_ms: values["p(99)"] ?? null,
    max_ms: values.max ?? null,
  };
}

function servedBy(metrics, name) {
  const counts = {};
  for (const region of REGIONS) {
    const metric = metrics[`${name}{served:${region}}`];
    if (metric && metric.values.count > 0) {
      counts[region] = metric.values.count;
    }
  }
  return counts;
}

export function handleSummary({ metrics, state }) {
  const dropped = metrics.dropped_iterations ? metrics.dropped_iterations.values.count : 0;
  const missed = Object.values(metrics).some((metric) =>
    Object.values(metric.thresholds || {}).some(({ ok }) => !ok));
  const summary = {
    base_url: BASE_URL,
    region: REGION,
    rate_per_s: RATE,
    duration_s: state.testRunDurationMs / 1000,
    write_ratio: WRITE_RATIO,
    reads: { ...figures(metrics.read_ms), served_by: servedBy(metrics, "reads_served_by") },
    writes: { ...figures(metrics.write_ms), served_by: servedBy(metrics, "writes_served_by") },
    // k6 counts what was true in "passes", and true means failed here.
    failed: metrics.failed ? metrics.failed.values.passes : 0,
    dropped_iterations: dropped,
    thresholds_kept: !missed,
  };
  const text = `${JSON.stringify(summary, null, 2)}\n`;
  return __ENV.SUMMARY ? { stdout: text, [__ENV.SUMMARY]: text } : { stdout: text };
}
