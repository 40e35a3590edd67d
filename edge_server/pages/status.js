// Asks for /status.json every two seconds; rates and recent latency come from comparing snapshots.

import { bars, ceiling, element, lines, meter, table } from "./charts.js";

const EVERY_MS = 2000, KEPT = 151, RECENT = 5;
const QUALITY = [["≤0.001", 1e-3], ["≤0.01", 1e-2], ["≤0.03", 3e-2], ["≤0.05", 5e-2], ["≤0.1", 0.1], [">0.1", 1]];
const history = [];
let order = { key: "estimated_ber", descending: true };

const place = (id) => document.getElementById(id);
const put = (id, node) => place(id).replaceChildren(node);
const sum = (rows, key = "count") => rows.reduce((total, row) => total + row[key], 0);
const whole = (value) => Math.round(value).toLocaleString("en");
const short = (value) => value === null ? "–" : value >= 100 ? whole(value) : String(Number(value.toPrecision(3)));
const percent = (share) => share === null ? "–" : `${(100 * share).toFixed(1)} %`;

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 129600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

// Wilson's 95 % interval of a share (Wilson 1927).
function interval(right, judged) {
  const z = 1.96, share = right / judged, spread = z * z / judged;
  const middle = (share + spread / 2) / (1 + spread);
  const half = z / (1 + spread) * Math.sqrt(share * (1 - share) / judged + spread / judged / 4);
  return [middle - half, middle + half];
}

const groups = {
  answered: (snapshot) => sum(snapshot.requests.filter((row) => row.outcome === "ok")),
  refused: (snapshot) => sum(snapshot.requests.filter((row) => row.outcome !== "ok")),
  unreadable: (snapshot) => sum(snapshot.frames.filter((row) => row.outcome === "bad_header")),
};

const before = (index) => history[Math.max(0, index - RECENT)];

// Per second at a sample, over the recent ones before it; null where there are none.
function rate(count, index) {
  const now = history[index], then = before(index), seconds = now.uptime_s - then.uptime_s;
  return seconds > 0 ? (count(now) - count(then)) / seconds : null;
}

// Milliseconds at a sample, interpolated within the bucket as histogram_quantile does.
function quantile(share, stage, index) {
  const now = history[index].latency[stage], then = before(index).latency[stage];
  const counts = now.counts.map((count, bucket) => index ? count - then.counts[bucket] : count);
  const total = counts.at(-1);
  if (!total) return null;
  const bucket = counts.findIndex((count) => count >= share * total);
  const low = bucket ? now.bounds[bucket - 1] : 0, high = now.bounds[bucket];
  if (high === null) return 1e3 * low;
  const below = bucket ? counts[bucket - 1] : 0;
  return 1e3 * (low + (high - low) * (share * total - below) / (counts[bucket] - below));
}

function tiles(now) {
  const last = history.length - 1, judged = sum(now.accuracy, "judged"), active = activeDevices(now);
  const p99 = quantile(0.99, "total", last);
  const bers = active.map((row) => row.estimated_ber).filter((ber) => ber !== null).sort((a, b) => a - b);
  const shown = [
    ["Answers per second", short(rate(groups.answered, last)), `${whole(groups.answered(now))} since the start`],
    ["Latency, median", p99 === null ? "–" : `${short(quantile(0.5, "total", last))} ms`, p99 === null ? "no answers lately" : `99th percentile ${short(p99)} ms`],
    ["Right answers", percent(judged ? sum(now.accuracy, "right") / judged : null), `of ${whole(judged)} judged`],
    ["Active devices", whole(now.devices.active), `${whole(now.devices.remembered)} remembered`],
    ["Median link BER", bers.length ? short(bers[bers.length >> 1]) : "–", bers.length ? `worst ${short(bers.at(-1))}` : "none estimated"],
    ["Waiting requests", whole(now.queue.depth), `of ${whole(now.queue.limit)}; ${short(now.batch_size)} in a batch`],
  ];
  place("tiles").replaceChildren(...shown.map(([name, value, note]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value), element("dd", {}, note))));
}

function accuracy(now) {
  const choice = place("accuracy-task"), value = (codec, task) => JSON.stringify([codec, task]);  // names may have spaces
  const values = [...new Set(now.codecs.flatMap((one) => Object.keys(one.tasks).map((task) => value(one.name, task))))];
  if ([...choice.options].map((option) => option.value).join() !== values.join()) {
    choice.replaceChildren(...values.map((one) => element("option", { value: one }, JSON.parse(one).join(" "))));
    const judged = now.accuracy.filter((row) => values.includes(value(row.codec, row.task)));
    const most = judged.sort((a, b) => b.judged - a.judged)[0];
    if (most) choice.value = value(most.codec, most.task);
  }
  if (!values.length) {
    place("accuracy-chart").replaceChildren();
    put("accuracy-table", table([], []));
    return;
  }
  const [codec, task] = JSON.parse(choice.value);
  const served = now.codecs.filter((one) => one.name === codec).at(-1);
  const rows = now.ber_buckets.map((bucket) => {
    const found = now.accuracy.find((row) => row.codec === codec && row.task === task && row.ber_bucket === bucket);
    const promises = served.published.filter((row) => row.ber_bucket === bucket).map((row) => row.accuracy_percent / 100);
    return { name: Number(bucket) ? `≤${Number(bucket)}` : "0", promises, judged: found?.judged ?? 0, right: found?.right ?? 0 };
  });
  const summary = rows.filter((row) => row.judged).map((row) => `BER ${row.name}: ${percent(row.right / row.judged)}`).join(", ");
  bars(place("accuracy-chart"), `Accuracy by BER of ${codec}: ${summary || "nothing judged yet"}`, rows.map((row) => {
    if (!row.judged) return { ...row, value: null };
    const [low, high] = interval(row.right, row.judged);
    return { ...row, value: row.right / row.judged, low, high, text: (100 * row.right / row.judged).toFixed(1) };
  }), 1, (share) => `${Math.round(100 * share)} %`);
  put("accuracy-table", table([
    { title: "BER used", cell: (row) => row.name },
    { title: "judged", number: true, cell: (row) => whole(row.judged) },
    { title: "right", number: true, cell: (row) => percent(row.judged ? row.right / row.judged : null) },
    { title: "95 % interval", number: true, cell: (row) => row.judged ? interval(row.right, row.judged).map(percent).join(" to ") : "–" },
    { title: "published", number: true, cell: (row) => row.promises.map(percent).join(", ") || "–" },
  ], rows, `${codec}, ${task}`));
}

function overTime(id, what, series, format) {
  const now = history.at(-1), times = history.map((one) => one.uptime_s - now.uptime_s);
  const last = series.map((one) => `${one.name} ${short(one.values.at(-1))}`).join(", ");
  lines(place(`${id}-chart`), `${what}, now: ${last}`, times, series, format);
  const rows = times.map((_, index) => index).filter((index) => (times.length - 1 - index) % RECENT === 0).reverse();
  put(`${id}-table`, table([
    { title: "when", cell: (index) => times[index] ? `${duration(-times[index])} ago` : "now" },
    ...series.map((one) => ({ title: one.name, number: true, cell: (index) => short(one.values[index]) })),
  ], rows));
}

const activeDevices = (now) => now.devices.latest.filter((row) => row.answered > 1 && row.heard_s <= now.devices.silent_s);

function quality(now) {
  const bers = activeDevices(now).map((row) => row.estimated_ber).filter((ber) => ber !== null);
  const rows = QUALITY.map(([name, upper], index) => {
    const above = index ? QUALITY[index - 1][1] : -1;
    return { name, value: bers.filter((ber) => ber > above && ber <= upper).length };
  }).map((row) => ({ ...row, text: whole(row.value) }));
  const summary = rows.filter((row) => row.value).map((row) => `BER ${row.name}: ${row.text}`).join(", ");
  bars(place("quality-chart"), `Active devices by estimated BER: ${summary || "none"}`, rows,
    Math.max(4, ceiling(Math.max(...rows.map((row) => row.value)))), whole);
  put("quality-table", table([
    { title: "estimated BER", cell: (row) => row.name }, { title: "devices", number: true, cell: (row) => row.text },
  ], rows));
}

function devices(now) {
  const { latest, remembered, silent_s } = now.devices;
  const cut = remembered > latest.length ? `The ${latest.length} heard last of ${whole(remembered)}. ` : "";
  place("devices-note").textContent = `${cut}Silent: not heard for ${duration(silent_s)}. The BER bar is logarithmic, from 0.0001 to 0.5.`;
  const share = (row) => row.judged ? row.right / row.judged : null;
  const columns = [
    { key: "device", title: "device", cell: (row) => row.device },
    { key: "heard_s", title: "last heard", number: true, cell: (row) => `${duration(row.heard_s)} ago` },
    { key: "state", title: "state", mark: (row) => row.heard_s > silent_s ? "silent" : "", cell: (row) => row.heard_s > silent_s ? "silent" : "active" },
    { key: "estimated_ber", title: "estimated BER", number: true, cell: (row) => {
      if (row.estimated_ber === null) return "–";
      const made = element("span", {}, row.estimated_ber.toPrecision(2));
      made.append(meter(Math.log(row.estimated_ber / 1e-4) / Math.log(5e3)));
      return made;
    } },
    { key: "answered", title: "answers", number: true, cell: (row) => whole(row.answered) },
    { key: "judged", title: "judged", number: true, cell: (row) => whole(row.judged) },
    { key: "right", title: "right", number: true, cell: (row) => percent(share(row)) },
  ];
  const value = { state: (row) => Number(row.heard_s > silent_s), right: share }[order.key] ?? ((row) => row[order.key]);
  const compare = (a, b) => typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : (a ?? -1) - (b ?? -1);
  const rows = [...latest].sort((a, b) => compare(value(a), value(b)) * (order.descending ? -1 : 1));
  for (const column of columns) {
    column.head = element("button", { type: "button", "data-key": column.key }, column.title);
    if (column.key === order.key) column.attributes = { "aria-sort": order.descending ? "descending" : "ascending" };
  }
  const focused = document.activeElement?.dataset?.key;
  put("devices-table", table(columns, rows));
  if (focused) place("devices-table").querySelector(`[data-key="${focused}"]`).focus();
}

place("devices-table").addEventListener("click", ({ target }) => {
  const key = target.dataset?.key;
  if (!key) return;
  order = { key, descending: key === order.key ? !order.descending : key !== "device" };
  devices(history.at(-1));
});

function counts(now) {
  const number = { title: "count", number: true, cell: (row) => whole(row.count) };
  const text = (key) => ({ title: key, cell: (row) => row[key] });
  put("requests-table", table([text("transport"), text("codec"), text("outcome"), number], now.requests));
  put("frames-table", table([text("outcome"), number], now.frames));
  put("codecs-table", table([
    text("name"), { ...text("version"), number: true, cell: (row) => String(row.version) }, text("family"),
    { title: "levels", cell: (row) => `${row.payload_bytes.join(", ")} B` },
    { title: "image", cell: (row) => `${row.width}×${row.height}` },
    { title: "tasks", cell: (row) => Object.entries(row.tasks).map(([task, classes]) => `${task} (${classes} classes)`).join(", ") },
  ], now.codecs));
  place("refused-table").replaceChildren(...(now.refused.length
    ? [table([{ title: "folder", cell: (row) => row.path }, text("reason")], now.refused, "Refused bundles")] : []));
}

function state(text, good) {
  const shown = place("state");
  if (shown.textContent !== text) shown.textContent = text;
  shown.className = `state ${good ? "good" : "bad"}`;
}

function show() {
  const now = history.at(-1), indices = history.map((_, index) => index);
  state(now.ready ? "serving" : "not ready", now.ready);
  place("uptime").textContent = `up ${duration(now.uptime_s)}`;
  tiles(now);
  accuracy(now);
  overTime("throughput", "Requests per second", Object.entries(groups).map(([name, count]) =>
    ({ name, values: indices.map((index) => rate(count, index)) })), short);
  overTime("latency", "Latency in milliseconds", [["median", 0.5], ["99th percentile", 0.99]].map(([name, share]) =>
    ({ name, values: indices.map((index) => index ? quantile(share, "total", index) : null) })), short);
  quality(now);
  devices(now);
  counts(now);
}

const REFUSED = { 401: "not signed in: reload this page and give a token", 403: "this token is not one of admin" };

async function refresh() {
  try {
    const answer = await fetch("/status.json", { cache: "no-store" });
    if (!answer.ok) throw new Error(REFUSED[answer.status] ?? `the edge answers ${answer.status}`);
    const now = await answer.json();
    // A restarted edge counts from 0 again.
    if (history.length && now.uptime_s < history.at(-1).uptime_s) history.length = 0;
    history.push(now);
    if (history.length > KEPT) history.shift();
  } catch (error) {
    state(error instanceof TypeError ? "the edge cannot be reached" : error.message, false);
    return;
  }
  show();
}

async function follow() {
  try {
    await refresh();
  } finally {
    setTimeout(follow, EVERY_MS);
  }
}

place("accuracy-task").addEventListener("change", () => accuracy(history.at(-1)));
addEventListener("resize", () => history.length && show());
follow();
