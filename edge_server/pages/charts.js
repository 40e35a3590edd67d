// Charts as plain SVG and tables as plain HTML, both made of text nodes: nothing that a device says becomes markup.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 220, LEFT = 46, RIGHT = 10, TOP = 14, BOTTOM = 26;

export function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// A table; columns are {title, number, cell(row)} with cell giving text or a node.
export function table(columns, rows, caption = "") {
  if (!rows.length) return element("p", { class: "muted" }, "none yet");
  const head = element("tr", {}, ...columns.map((column) =>
    fill(element("th", { scope: "col", ...(column.number ? { class: "number" } : {}), ...(column.attributes ?? {}) }),
      {}, [column.head ?? column.title])));
  const body = rows.map((row) => element("tr", {}, ...columns.map((column) => {
    const classes = [column.number && "number", column.mark?.(row)].filter(Boolean).join(" ");
    return element("td", classes ? { class: classes } : {}, column.cell(row));
  })));
  const made = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  if (caption) made.prepend(element("caption", {}, caption));
  return made;
}

// A bar as wide as `share`, in [0, 1]; it only repeats the number beside it.
export function meter(share) {
  return svg("svg", { width: 72, height: 10, "aria-hidden": "true" },
    svg("rect", { class: "track", width: 72, height: 10, rx: 3 }),
    svg("rect", { class: "bar", width: 72 * Math.min(1, Math.max(0, share)), height: 10, rx: 3 }));
}

function frame(place, summary) {
  const width = Math.max(240, place.clientWidth);
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, role: "img", "aria-label": summary });
  place.replaceChildren(drawing);
  return { drawing, right: width - RIGHT, bottom: HEIGHT - BOTTOM };
}

function scale(drawing, right, bottom, top, format) {
  const y = (value) => bottom - (bottom - TOP) * value / top;
  for (let part = 0; part <= 4; part++) {
    const value = top * part / 4;
    drawing.append(
      svg("line", { class: "grid", x1: LEFT, x2: right, y1: y(value), y2: y(value) }),
      svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, format(value)));
  }
  return y;
}

// The next of 1, 2, 4, 6, 8 times a power of ten: its quarters are short numbers.
export function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value || 1));
  return power * [1, 2, 4, 6, 8, 10].find((step) => step * power >= value);
}

// Lines over time. `times` in seconds before now, ascending to 0; series are {name, values}, null for a gap.
export function lines(place, summary, times, series, format) {
  const { drawing, right, bottom } = frame(place, summary);
  const seen = series.flatMap((one) => one.values).filter((value) => value !== null);
  const y = scale(drawing, right, bottom, ceiling(Math.max(0, ...seen)), format);
  const span = Math.max(60, -(times[0] ?? 0));
  const x = (time) => right + (right - LEFT) * time / span;
  for (const part of [1, 0.5, 0]) {
    const anchor = { 1: "start", 0.5: "middle", 0: "end" }[part];
    const text = part ? `${Math.round(span * part)} s ago` : "now";
    drawing.append(svg("text", { x: x(-span * part), y: HEIGHT - 8, "text-anchor": anchor }, text));
  }
  let legend = LEFT;
  series.forEach((one, number) => {
    let path = "", pen = "M";
    one.values.forEach((value, index) => {
      if (value === null) { pen = "M"; return; }
      path += `${pen}${x(times[index]).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
    });
    drawing.append(
      svg("path", { class: `line s${number}`, d: path }),
      svg("line", { class: `line s${number}`, x1: legend, x2: legend + 18, y1: 6, y2: 6 }),
      svg("text", { x: legend + 23, y: 10 }, one.name));
    legend += 34 + 6.4 * one.name.length;
  });
}

// Bars by category: {name, value, text, low, high, promises}; the last three are optional, all on 0..top.
export function bars(place, summary, categories, top, format) {
  const { drawing, right, bottom } = frame(place, summary);
  const y = scale(drawing, right, bottom, top, format);
  const step = (right - LEFT) / categories.length;
  categories.forEach((one, index) => {
    const middle = LEFT + step * (index + 0.5), half = Math.min(28, step * 0.34);
    drawing.append(svg("text", { x: middle, y: HEIGHT - 8, "text-anchor": "middle" }, one.name));
    for (const promise of one.promises ?? []) {
      drawing.append(svg("line", { class: "promise", x1: middle - half - 5, x2: middle + half + 5, y1: y(promise), y2: y(promise) }));
    }
    if (one.value === null) return;
    drawing.append(svg("rect", { class: "bar", x: middle - half, width: 2 * half, y: y(one.value), height: bottom - y(one.value) }));
    if (one.low !== undefined) {
      drawing.append(svg("line", { class: "whisker", x1: middle, x2: middle, y1: y(one.low), y2: y(one.high) }));
    }
    // Inside a high bar, where nothing else is; above a low one.
    const inside = y(one.value) < bottom - 60;
    drawing.append(svg("text", { class: "value", x: middle, y: inside ? bottom - 8 : y(one.value) - 5, "text-anchor": "middle" }, one.text));
  });
}
