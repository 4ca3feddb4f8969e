// A read mix at a steady arrival rate: details 75 %, searches 20 %, lists 5 %.
// Environment: BASE_URL, DURATION (30s), RATE (100 a second), PROPERTIES (10000), SUMMARY (k6/out/smoke.json).
import http from 'k6/http';
import { check } from 'k6';

const BASE_URL = __ENV.BASE_URL || 'http://127.0.0.1:8080';
const RATE = Number(__ENV.RATE || 100);
const PROPERTIES = Number(__ENV.PROPERTIES || 10000);
const SUMMARY = __ENV.SUMMARY || 'k6/out/smoke.json';
const SUBURBS = ['Bondi Beach', 'Newtown', 'Fitzroy', 'St Kilda', 'New Farm', 'Fremantle', 'Glenelg', 'Braddon'];

export const options = {
  scenarios: {
    reads: {
      executor: 'constant-arrival-rate',
      rate: RATE,
      timeUnit: '1s',
      duration: __ENV.DURATION || '30s',
      preAllocatedVUs: 50,
      maxVUs: 200,
    },
  },
  thresholds: {
    http_req_duration: ['p(95)<200'],
    http_req_failed: ['rate<0.001'],
    checks: ['rate>0.999'],
    dropped_iterations: [`rate<${RATE / 100}`],
  },
  summaryTrendStats: ['avg', 'min', 'med', 'p(95)', 'p(99)', 'max'],
};

export default function () {
  const dice = Math.random();
  if (dice < 0.75) readDetail();
  else if (dice < 0.95) readPage('/search', `suburb=${encodeURIComponent(pick(SUBURBS))}`);
  else readPage('/properties', 'sort=views');
}

// The smaller an id, the more often it is read: the chance falls with 1/id.
function readDetail() {
  const id = Math.floor(Math.pow(PROPERTIES, Math.random()));
  const response = http.get(`${BASE_URL}/properties/${id}`, asSomebody('/properties/{id}'));
  check(response, { 'the property that was asked for': (r) => r.status === 200 && r.json('id') === id });
}

function readPage(path, query) {
  const response = http.get(`${BASE_URL}${path}?${query}`, asSomebody(path));
  check(response, { 'a page with properties': (r) => r.status === 200 && r.json('items.0.id') > 0 });
}

// Limits are per client address, so every request comes from one of a thousand clients.
function asSomebody(name) {
  const client = Math.floor(Math.random() * 1000);
  return { headers: { 'X-Forwarded-For': `10.1.${client >> 8}.${client & 255}` }, tags: { name } };
}

function pick(list) {
  return list[Math.floor(Math.random() * list.length)];
}

export function handleSummary(data) {
  return { [SUMMARY]: JSON.stringify(data, null, 2), stdout: report(data.metrics) };
}

function report(metrics) {
  const { http_reqs: requests, http_req_duration: duration, http_req_failed: failed } = metrics;
  const lines = [
    `requests  ${requests.values.count} (${requests.values.rate.toFixed(1)}/s)`,
    `duration  p50 ${milliseconds(duration.values.med)}, p95 ${milliseconds(duration.values['p(95)'])}, ` +
      `p99 ${milliseconds(duration.values['p(99)'])}`,
    `failed    ${(failed.values.rate * 100).toFixed(3)} %`,
  ];
  for (const [name, metric] of Object.entries(metrics)) {
    for (const [expression, { ok }] of Object.entries(metric.thresholds || {})) {
      lines.push(`${ok ? 'ok' : 'CROSSED'}  ${name}: ${expression}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

function milliseconds(value) {
  return `${value.toFixed(1)} ms`;
}
