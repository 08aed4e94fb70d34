"use strict";
// Reads the report from the page and draws what the static table cannot: sorting, charts, heat maps. All text enters the page as text,
// never as markup.
const report = JSON.parse(document.getElementById("report").textContent);
const colours = ["#0b5cad", "#c2410c", "#15803d", "#7e22ce", "#b91c1c", "#0e7490", "#a16207", "#be185d", "#475569", "#4d7c0f"];

function element(name, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "text", "title", "circle", "g"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(2) : String(+value.toPrecision(4));
}

// ---- sortable table ----
function makeSortable(table) {
  table.querySelectorAll("thead th").forEach((header, column) => {
    const button = element("button", {type: "button"});
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const descending = header.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("thead th").forEach(other => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const key = row => {
        const cell = row.cells[column];
        return cell.dataset.value === undefined ? cell.textContent : parseFloat(cell.dataset.value);
      };
      const order = (a, b) => {
        const x = key(a), y = key(b);
        if (typeof x === "string") return x.localeCompare(y, undefined, {numeric: true});
        return (Number.isNaN(x) ? Infinity : x) - (Number.isNaN(y) ? Infinity : y);
      };
      const rows = [...table.tBodies[0].rows].sort(order);
      if (descending) rows.reverse();
      table.tBodies[0].append(...rows);
    });
  });
}

// ---- line charts ----
// Round numbers around low … high, some five: multiples of 1, 2 or 5 · 10^k that short() shows apart; `whole`: of integers.
function ticksAround(low, high, whole) {
  const least = Math.max(high - low, whole ? 5 : Math.max(-low, high) / 200) / 5, power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(round => round >= least);
  const first = Math.floor(low / step), last = Math.max(first + 1, Math.ceil(high / step));
  return Array.from({length: last - first + 1}, (_, k) => +((first + k) * step).toPrecision(12));
}

// From 0 on, unless that would squeeze the lines.
function extentOfLines(ys) {
  const low = Math.min(...ys), high = Math.max(...ys);
  if (low === high) return low === 0 ? [0, 1] : [Math.min(0, low), Math.max(0, high)];
  return [low < high / 2 ? Math.min(0, low) : low, high];
}

// series: [{name, x, y, base}], drawn in one SVG with a legend; its label tells the last values to screen readers. base: dashed, to
// compare with.
function lineChart(title, xLabel, series, logarithmic) {
  const width = 560, height = 280, left = 58, right = 22, top = 12, bottom = 34;
  const usable = y => y !== null && Number.isFinite(y) && (!logarithmic || y > 0);
  const ys = series.flatMap(s => s.y).filter(usable), xs = series.flatMap(s => s.x);
  if (!ys.length) return null;
  let [x0, x1] = [Math.min(...xs), Math.max(...xs)];
  if (x0 === x1) { x0 -= .5; x1 += .5; }
  const xTicks = ticksAround(x0, x1, xs.every(Number.isInteger)).filter(x => x0 <= x && x <= x1);
  const scale = logarithmic ? Math.log10 : v => v;  // ticks are whole powers of ten
  const yTicks = logarithmic ? ticksAround(scale(Math.min(...ys)), scale(Math.max(...ys)), true) : ticksAround(...extentOfLines(ys), false);
  const [s0, s1] = [yTicks[0], yTicks.at(-1)];
  const px = x => left + (x - x0) / (x1 - x0) * (width - left - right);
  const level = s => height - bottom - (s - s0) / (s1 - s0) * (height - top - bottom), py = y => level(scale(y));
  const last = series.map(s => `${s.name} ${short(s.y.filter(usable).at(-1))}`).join(", ");
  const colour = (s, k) => s.base ? ["#64748b", "#a8a29e"][k % 2] : colours[k % colours.length];
  const svg = element("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}. Last values: ${last}`});
  for (const s of yTicks)
    svg.append(element("line", {class: "axis", x1: left, x2: width - right, y1: level(s), y2: level(s)}),
      element("text", {x: left - 6, y: level(s) + 4, "text-anchor": "end"}, logarithmic ? `1e${s}` : short(s)));
  for (const x of xTicks) svg.append(element("text", {x: px(x), y: height - bottom + 16, "text-anchor": "middle"}, short(x)));
  svg.append(element("text", {x: width - right, y: height - 4, "text-anchor": "end"}, xLabel));
  series.forEach((s, k) => {
    let path = "", pen = false;
    s.x.forEach((x, i) => {
      if (!usable(s.y[i])) { pen = false; return; }
      path += `${pen ? "L" : "M"}${px(x).toFixed(1)} ${py(s.y[i]).toFixed(1)}`;
      pen = true;
      if (s.x.length <= 64 && !s.base) svg.append(element("circle", {cx: px(x), cy: py(s.y[i]), r: 2.5, fill: colour(s, k)},
        element("title", {}, `${s.name}, ${xLabel} ${short(x)}: ${short(s.y[i])}`)));
    });
    svg.append(element("path", {d: path, fill: "none", stroke: colour(s, k), "stroke-width": 1.8, "stroke-dasharray": s.base ? "7 4" : "none"}));
  });
  const legend = element("ul", {class: "legend"});
  series.forEach((s, k) => {
    const swatch = element("i");
    swatch.style.background = colour(s, k);
    legend.append(element("li", {}, swatch, s.name));
  });
  return element("figure", {}, element("figcaption", {}, title), svg, legend);
}

// Every number of the layer charts.
function layerTable() {
  const lines = report.rows.flatMap(row => Object.entries(row.layers ?? {}).flatMap(([measure, series]) =>
    Object.entries(series).map(([name, values]) => [`${row.label}: ${measure}, ${name}`, values])));
  const depth = lines.reduce((most, [, values]) => Math.max(most, values.length), 0);
  const head = element("tr", {}, element("th", {scope: "col"}, "model: measure"),
    ...Array.from({length: depth}, (_, layer) => element("th", {scope: "col"}, `layer ${layer}`)));
  const body = lines.map(([name, values]) => element("tr", {}, element("th", {scope: "row"}, name), ...values.map(value => element("td", {}, short(value)))));
  return element("details", {}, element("summary", {}, "The numbers"),
    element("div", {class: "scroll"}, element("table", {}, element("thead", {}, head), element("tbody", {}, ...body))));
}

// Whether only a logarithmic axis shows all values.
function isWide(series) {
  const values = series.flatMap(s => s.y).filter(v => v > 0);
  return values.length > 1 && Math.max(...values) / Math.min(...values) > 1e3;
}

// Without those that are as one before them.
function differentLines(series) {
  return series.filter((s, k) => series.findIndex(other => String(other.y) === String(s.y)) === k);
}

// The error of each layer while the model was trained: over α where it was annealed, else over steps.
function errorChart(model, approximation, {measure, steps, alpha, layers}) {
  const annealed = new Set(alpha).size > 1;
  const series = layers.map((y, layer) => ({name: `layer ${layer}`, x: annealed ? alpha : steps, y}));
  const wide = isWide(series);
  const chart = lineChart(`${model}: approximation error (${measure}): ${approximation}${wide ? " (logarithmic)" : ""}`, annealed ? "α" : "step", series, wide);
  return chart ? [chart] : [];
}

function drawCharts() {
  const curves = document.getElementById("curves"), layers = document.getElementById("layers");
  for (const name of new Set(report.rows.flatMap(row => Object.keys(row.curves ?? {})))) {
    const series = report.rows.filter(row => row.curves?.[name]).map(row => ({name: row.label, ...row.curves[name]}));
    const chart = lineChart(name, "step", series, false);
    if (chart) curves.append(chart);
  }
  for (const row of report.rows) for (const [name, errors] of Object.entries(row.error_curves ?? {})) curves.append(...errorChart(row.label, name, errors));
  for (const measure of new Set(report.rows.flatMap(row => Object.keys(row.layers ?? {})))) {
    const lines = [...new Set(report.rows.flatMap(row => Object.keys(row.layers?.[measure] ?? {})))];
    const seriesOf = line => report.rows.filter(row => row.layers?.[measure]?.[line])
      .map(row => ({name: row.label, x: row.layers[measure][line].map((_, layer) => layer), y: row.layers[measure][line]}));
    const isBase = line => line.startsWith("no model: ");
    const bases = lines.filter(isBase).flatMap(line => differentLines(seriesOf(line)).map(s => ({...s, name: line, base: true})));
    for (const line of lines.filter(line => !isBase(line))) {
      const series = [...seriesOf(line), ...bases];
      const wide = isWide(series);
      const chart = lineChart(`${measure}: ${line}${wide ? " (logarithmic)" : ""}`, "layer", series, wide);
      if (chart) layers.append(chart);
    }
  }
  layers.closest("section").append(layerTable());
  for (const holder of [curves, layers]) if (!holder.childElementCount) holder.closest("section").hidden = true;
}

// ---- heat maps ----
function shade(t) {  // 0 … 1: white → blue → dark, readable without colour vision; below 0: white → orange
  const stops = t < 0 ? [[255, 250, 245], [253, 190, 133], [217, 95, 14], [102, 37, 6]] : [[247, 250, 255], [158, 202, 225], [33, 113, 181], [8, 30, 75]];
  const position = Math.min(1, Math.abs(t)) * 3;
  const k = Math.min(2, Math.floor(position)), f = position - k;
  return `rgb(${stops[k].map((c, i) => Math.round(c + (stops[k + 1][i] - c) * f)).join(" ")})`;
}

// The largest absolute value of a map, and whether any value is negative.
function extentOf(values) {
  let largest = 1e-300, signed = false;
  for (const line of values) for (const value of line) {
    largest = Math.max(largest, Math.abs(value ?? 0));
    signed ||= value < 0;
  }
  return {largest, signed};
}

// Frames around the links of a gold alignment: sure ones, and dashed those that are only possible.
function drawGold(ink, map, margin, cell) {
  ink.strokeStyle = "#16a34a";
  ink.lineWidth = 2;
  const frame = ([i, j]) => ink.strokeRect(margin + j * cell + 1, margin + i * cell + 1, cell - 3, cell - 3);
  ink.setLineDash([4, 3]);
  map.possible.filter(([i, j]) => !isLink(map.sure, i, j)).forEach(frame);
  ink.setLineDash([]);
  map.sure.forEach(frame);
}

function isLink(links, i, j) { return links.some(link => link[0] === i && link[1] === j); }

// A map of words has gold links; its rows are compared with themselves only.
function heatMap(model, map) {
  const rows = map.rows.length, columns = map.columns.length, cell = Math.max(6, Math.min(26, Math.floor(680 / Math.max(rows, columns))));
  const isOfWords = map.sure !== undefined, font = Math.max(8, Math.min(13, cell - 2));
  const shown = label => [...label].slice(0, isOfWords ? 12 : 6).join("");
  const longest = Math.max(2, ...[...map.rows, ...map.columns].map(label => [...shown(label)].length));
  const margin = 10 + Math.ceil(.65 * font * longest), upright = longest > 2;  // columns are then labelled upwards, beside each other
  const {largest, signed} = extentOf(map.values), scales = map.values.map(line => isOfWords ? extentOf([line]).largest : largest);
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const canvas = element("canvas", {width: margin + columns * cell + 8, height: margin + rows * cell + 8, role: "img", tabindex: "0",
    "aria-label": `Heat map of ${model}, ${map.title}: ${rows} output positions by ${columns} input tokens, largest value ${short(largest)}. The numbers are in the table below.`});
  const ink = canvas.getContext("2d");
  map.values.forEach((line, i) => line.forEach((value, j) => {
    ink.fillStyle = value === null ? "#b91c1c" : shade(value / scales[i]);  // not a number
    ink.fillRect(margin + j * cell, margin + i * cell, cell - (cell > 8), cell - (cell > 8));
  }));
  if (isOfWords) drawGold(ink, map, margin, cell);
  ink.fillStyle = dark ? "#e6e9ef" : "#1c2330";
  ink.font = `${font}px ui-monospace, monospace`;
  ink.textBaseline = "middle";
  const step = Math.ceil(10 / cell);
  map.rows.forEach((label, i) => { if (i % step === 0) { ink.textAlign = "right"; ink.fillText(shown(label), margin - 4, margin + (i + .5) * cell); } });
  map.columns.forEach((label, j) => {
    if (j % step) return;
    ink.save(); ink.translate(margin + (j + .5) * cell, margin - 4); ink.rotate(upright ? -Math.PI / 2 : 0);
    ink.textAlign = upright ? "left" : "center"; ink.fillText(shown(label), 0, upright ? 0 : -6); ink.restore();
  });
  const readout = element("output", {"aria-live": "polite"}, "Point at a cell, or use the arrow keys on the map, to read its value.");
  let [row, column] = [0, 0];
  const show = () => {
    const gold = !isOfWords ? "" : isLink(map.sure, row, column) ? ", a gold link" : isLink(map.possible, row, column) ? ", a possible link" : "";
    readout.textContent = `output ${row} “${map.rows[row]}” ← input ${column} “${map.columns[column]}”: ${short(map.values[row][column])}${gold}`;
  };
  canvas.addEventListener("pointermove", event => {
    const box = canvas.getBoundingClientRect(), zoom = canvas.width / box.width;
    const j = Math.floor(((event.clientX - box.left) * zoom - margin) / cell), i = Math.floor(((event.clientY - box.top) * zoom - margin) / cell);
    if (i >= 0 && i < rows && j >= 0 && j < columns) { row = i; column = j; show(); }
  });
  canvas.addEventListener("keydown", event => {
    const move = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
    if (!move) return;
    event.preventDefault();
    row = Math.max(0, Math.min(rows - 1, row + move[0]));
    column = Math.max(0, Math.min(columns - 1, column + move[1]));
    show();
  });
  const numbers = element("details", {}, element("summary", {}, "The numbers"));
  numbers.addEventListener("toggle", () => {
    if (numbers.childElementCount > 1) return;
    const head = element("tr", {}, element("th", {scope: "col"}, "output \\ input"), ...map.columns.map(text => element("th", {scope: "col"}, text)));
    const body = map.values.map((line, i) => element("tr", {}, element("th", {scope: "row"}, map.rows[i]), ...line.map(value => element("td", {}, short(value)))));
    numbers.append(element("div", {class: "scroll"}, element("table", {}, element("thead", {}, head), element("tbody", {}, ...body))));
  });
  return element("figure", {}, element("figcaption", {}, `${model}: ${map.title}${signed ? " (orange: negative)" : ""}`), element("div", {class: "scroll"}, canvas), readout, numbers);
}

// Of the rows but the first, which stands beside it, the best of the last column that has a direction.
function otherModel(models) {
  const column = report.columns.filter(c => c.better).at(-1);
  if (!column) return models.length - 1;
  const sign = column.better === "higher" ? 1 : -1;
  const score = row => Number.isFinite(row.values[column.key]) ? sign * row.values[column.key] : -Infinity;
  return models.reduce((best, row, k) => k > 1 && score(row) > score(models[best]) ? k : best, 1);
}

// The map of the first text's highest layer; alignments have the best one first.
function firstMap(maps) {
  if (maps[0].layer === undefined) return 0;
  return maps.reduce((best, map, k) => map.text === maps[best].text && map.layer > maps[best].layer ? k : best, 0);
}

// Of the rows' `key`, into the elements of these names.
function drawMaps(key, holderName, pickersName) {
  const holder = document.getElementById(holderName), pickers = document.getElementById(pickersName);
  const models = report.rows.filter(row => row[key]?.length);
  if (!models.length) { holder.closest("section").hidden = true; return; }
  // Two maps side by side, so that an exact model stands beside an approximate one.
  const slots = Math.min(2, models.length);
  const redraw = [];
  for (let slot = 0; slot < slots; slot++) {
    const model = element("select", {"aria-label": `model of map ${slot + 1}`}), which = element("select", {"aria-label": `map ${slot + 1}`});
    models.forEach((row, k) => model.append(element("option", {value: k}, row.label)));
    model.value = slot === 0 ? 0 : otherModel(models);
    const place = element("div");
    const draw = () => place.replaceChildren(heatMap(models[model.value].label, models[model.value][key][which.value]));
    const fill = () => {
      const before = which.selectedIndex < 0 ? firstMap(models[model.value][key]) : which.selectedIndex;
      which.replaceChildren(...models[model.value][key].map((map, k) => element("option", {value: k}, map.title)));
      which.selectedIndex = Math.min(Math.max(before, 0), models[model.value][key].length - 1);
      draw();
    };
    model.addEventListener("change", fill);
    which.addEventListener("change", draw);
    pickers.append(element("span", {}, model, " ", which));
    holder.append(place);
    redraw.push(fill);
  }
  redraw.forEach(fill => fill());
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
drawCharts();
drawMaps("maps", "maps", "pickers");
drawMaps("alignments", "alignments", "alignment-pickers");
