// Sorting, filtering and live charts on top of a page that is complete without them.
"use strict";
(async () => {
  const data = JSON.parse(await plain(document.getElementById("report-data").textContent));
  const state = { off: { hardware: new Set(), quantization: new Set() }, sort: {}, query: {}, columns: {} };
  const PAGE = 50;
  const absent = "–";
  for (const element of document.querySelectorAll(".script-only")) element.hidden = false;

  // Long data comes as gzip in base64, which never begins with a brace.
  async function plain(text) {
    if (text.startsWith("{")) return text;
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }

  // --- tables come column by column; rows are easier to sort and show
  function unpacked(column, size) {
    if ("same" in column) return Array(size).fill(column.same);
    return column.texts ? column.places.map((place) => column.texts[place]) : column.values;
  }
  for (const table of Object.values(data.tables)) {
    const columns = table.columns.map((column) => unpacked(column, table.size));
    table.rows = Array.from({ length: table.size }, (_, i) => columns.map((values) => values[i]));
  }

  // --- numbers, written as in engine/report/numbers.py
  function shown(column, value) {
    if (value === null || value === undefined) return absent;
    if (typeof value === "boolean") return value ? "yes" : "no";
    if (!column.number || typeof value !== "number") return String(value);
    if (column.each.length) return withOwnUnit(column.each, value);
    const number = value / column.factor;
    if (number !== 0 && Math.abs(number) < 0.5 * 10 ** -column.decimals) return String(Number(number.toPrecision(2)));
    return written(number, column.decimals);
  }

  // Making a formatter takes longer than a hundred uses of it.
  const alphabet = new Intl.Collator("en", { numeric: true });
  const formatters = new Map();
  function written(number, places) {
    if (!formatters.has(places)) {
      formatters.set(places, new Intl.NumberFormat("en-US", { minimumFractionDigits: places, maximumFractionDigits: places }));
    }
    return formatters.get(places).format(number).replace("-", "−");
  }
  function withOwnUnit(prefixes, value) {
    let [factor, unit] = prefixes[0];
    for (const [f, u] of prefixes) if (Math.abs(value) >= f * 0.9995) [factor, unit] = [f, u];
    const number = value / factor;
    if (number === 0) return `0 ${unit}`;
    const places = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(number))));
    return written(number, places) + " " + unit;
  }

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  }

  // --- state in the address, so that a view can be sent to somebody
  function readState() {
    const found = new URLSearchParams(location.hash.split("?")[1] || "");
    for (const axis of Object.keys(state.off)) state.off[axis] = new Set(found.getAll("not-" + axis));
    for (const name of Object.keys(data.tables)) {
      const sort = found.get("sort-" + name);
      if (sort) state.sort[name] = { column: sort.replace(/^-/, ""), down: sort.startsWith("-") };
      if (found.get("find-" + name)) state.query[name] = found.get("find-" + name);
      if (found.get("columns-" + name)) state.columns[name] = new Set(found.get("columns-" + name).split(","));
    }
  }
  function writeState() {
    const kept = new URLSearchParams();
    for (const [axis, values] of Object.entries(state.off)) for (const value of values) kept.append("not-" + axis, value);
    for (const [name, sort] of Object.entries(state.sort)) kept.set("sort-" + name, (sort.down ? "-" : "") + sort.column);
    for (const [name, text] of Object.entries(state.query)) if (text) kept.set("find-" + name, text);
    for (const [name, columns] of Object.entries(state.columns)) if (columns.size) kept.set("columns-" + name, [...columns].join(","));
    const anchor = location.hash.split("?")[0] || "#answer";
    const text = kept.toString();
    history.replaceState(null, "", text ? anchor + "?" + text : anchor);
  }

  // --- downloads
  function save(name, type, text) {
    const link = make("a", { download: name, href: URL.createObjectURL(new Blob([text], { type })) });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
  const title = (column) => (column.base ? `${column.name} [${column.base}]` : column.name);
  function csvCell(value) {
    if (value === null || value === undefined) return "";
    if (typeof value !== "string") return String(value);
    // A text that a spreadsheet would run is kept a text (OWASP ASVS 1.2.10).
    const safe = /^[=+\-@\t\0]/.test(value) ? "'" + value : value;
    return /[",\n\r]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
  }
  function asCsv(table, rows) {
    return [table.columns.map((c) => csvCell(title(c))).join(","), ...rows.map((r) => r.map(csvCell).join(","))].join("\r\n") + "\r\n";
  }
  function asJson(table, rows) {
    const units = Object.fromEntries(table.columns.map((c) => [c.name, c.base]));
    return JSON.stringify({ units, rows: rows.map((r) => Object.fromEntries(table.columns.map((c, i) => [c.name, r[i]]))) }, null, 1);
  }

  // --- live tables
  class LiveTable {
    constructor(element, name) {
      this.element = element;
      this.name = name;
      this.table = data.tables[name];
      this.page = 0;
      this.body = element.tBodies[0];
      this.stale = true;
      this.first = true;
      this.lines = [];
      this.inSight = false;
      this.tools();
      // Thousands of rows slow down every layout of the page; the first fifty are drawn at once.
      if (this.table.size > PAGE) this.draw(true);
    }
    redraw() {
      if (this.stale) this.draw(this.first);
    }
    // What a search looks through: made when somebody searches first.
    get texts() {
      const words = this.table.columns.map((column, i) => i).filter((i) => !this.table.columns[i].number);
      const found = this.table.rows.map((row) => words.map((i) => row[i] ?? "").join("\u0001").toLowerCase());
      Object.defineProperty(this, "texts", { value: found });
      return found;
    }
    tools() {
      const place = document.querySelector(`[data-tools="${CSS.escape(this.name)}"]`);
      const rows = () => this.rows();
      const bar = place || make("div", { class: "tools" });
      if (!place) this.element.closest(".scroll").before(bar);
      if (place) {
        this.search = make("input", { type: "search", placeholder: "Find in points", "aria-label": "Find in points", value: state.query[this.name] || "",
          oninput: () => { state.query[this.name] = this.search.value; this.page = 0; this.draw(); writeState(); } });
        bar.append(this.search, this.chooser());
      }
      bar.append(
        make("button", { type: "button", onclick: () => save(`${data.name}-${this.name}.csv`, "text/csv", asCsv(this.table, rows())) }, "CSV"),
        make("button", { type: "button", onclick: () => save(`${data.name}-${this.name}.json`, "application/json", asJson(this.table, rows())) }, "JSON"),
        make("button", { type: "button", onclick: (event) => this.copy(event.currentTarget) }, "Copy"),
      );
      this.pager = make("div", { class: "pager", "aria-live": "polite" });
      this.element.closest(".scroll").after(this.pager);
    }
    async copy(button) {
      const text = [this.table.columns.map(title).join("\t"), ...this.rows().map((r) => r.map((v) => v ?? "").join("\t"))].join("\n");
      try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; } catch { button.textContent = "Not allowed here"; }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    }
    chooser() {
      const list = make("div");
      for (const column of this.table.columns) {
        const box = make("input", { type: "checkbox", checked: this.visible(column), onchange: () => {
          const chosen = state.columns[this.name] || (state.columns[this.name] = new Set());
          // Only what differs from the usual columns is remembered.
          if (box.checked === !column.optional) chosen.delete(column.name); else chosen.add(column.name);
          this.draw(); writeState();
        } });
        list.append(make("label", { title: column.meaning }, box, " " + column.label + (column.unit ? ` (${column.unit})` : "")));
      }
      return make("details", {}, make("summary", {}, "Columns"), list);
    }
    visible(column) {
      const changed = state.columns[this.name];
      return Boolean(column.optional) === Boolean(changed && changed.has(column.name));
    }
    rows() {
      const { columns } = this.table;
      const words = (state.query[this.name] || "").toLowerCase().split(/\s+/).filter(Boolean);
      const axes = Object.entries(state.off).map(([axis, off]) => [columns.findIndex((c) => c.name === axis), off]).filter(([i, off]) => i >= 0 && off.size);
      const texts = words.length ? this.texts : [];
      this.numbers = [];
      const found = [];
      this.table.rows.forEach((row, i) => {
        if (axes.every(([j, off]) => !off.has(known(row[j]))) && (!words.length || words.every((w) => texts[i].includes(w)))) { found.push(row); this.numbers.push(i); }
      });
      const sort = state.sort[this.name];
      const at = sort ? columns.findIndex((c) => c.name === sort.column) : -1;
      if (at < 0) return found;
      const order = found.map((row, i) => i);
      order.sort((a, b) => {
        const x = found[a][at], y = found[b][at];
        // What is unknown comes last, whichever way.
        if (x === null || y === null) return (x === null) - (y === null) || a - b;
        const less = typeof x === "string" ? alphabet.compare(x, y) : x - y;
        return (sort.down ? -less : less) || a - b;
      });
      this.numbers = order.map((i) => this.numbers[i]);
      return order.map((i) => found[i]);
    }
    draw(first) {
      this.stale = this.first = false;
      // Before anything changes: afterwards the browser would lay out the table for it at once.
      if (!first) this.element.closest(".scroll").scrollTop = 0;
      const { columns } = this.table;
      const visible = columns.map((c, i) => i).filter((i) => this.visible(columns[i]));
      const rows = this.rows();
      const pages = Math.max(1, Math.ceil(rows.length / PAGE));
      this.page = Math.min(this.page, pages - 1);
      this.head(visible);
      const status = columns.findIndex((c) => c.name === "status");
      const begin = this.page * PAGE;
      const page = rows.slice(begin, begin + PAGE);
      for (const { row } of this.lines.splice(page.length)) row.remove();
      while (this.lines.length < page.length) {
        const line = this.line(visible);
        this.lines.push(line);
        this.body.append(line.row);
      }
      page.forEach((row, k) => {
        const line = this.lines[k];
        line.row.className = status >= 0 && row[status] !== "ok" ? "off" : "";
        const place = this.numbers[begin + k];
        visible.forEach((i, j) => {
          const between = columns[i].intervals && columns[i].intervals[place];
          const ends = between ? ` [${shown(columns[i], between[0])}, ${shown(columns[i], between[1])}]` : "";
          const text = shown(columns[i], row[i]) + ends;
          if (line.texts[j].data !== text) line.texts[j].data = text;
        });
      });
      const count = rows.length === this.table.rows.length ? `${rows.length.toLocaleString("en-US")} ${rows.length === 1 ? "row" : "rows"}` :
        `${rows.length.toLocaleString("en-US")} of ${this.table.rows.length.toLocaleString("en-US")} rows`;
      this.pager.replaceChildren(count);
      if (pages > 1) {
        this.pager.append(
          make("button", { type: "button", disabled: this.page === 0, onclick: () => { this.page -= 1; this.draw(); } }, "Previous"),
          `page ${this.page + 1} of ${pages}`,
          make("button", { type: "button", disabled: this.page >= pages - 1, onclick: () => { this.page += 1; this.draw(); } }, "Next"),
        );
      }
    }
    // A row of empty cells; what is in them is written where they stand, which takes half as long as new ones.
    line(visible) {
      const texts = visible.map(() => document.createTextNode(""));
      const { columns } = this.table;
      const row = make("tr", {}, ...visible.map((i, j) => make("td", { class: columns[i].number ? "n" : null }, texts[j])));
      return { row, texts };
    }
    head(visible) {
      const looks = JSON.stringify([visible, state.sort[this.name]]);
      if (looks === this.looks) return;
      this.looks = looks;
      this.lines = [];
      this.body.replaceChildren();
      const { columns } = this.table;
      const sort = state.sort[this.name];
      const heads = visible.map((i) => {
        const column = columns[i];
        const way = sort && sort.column === column.name ? (sort.down ? "descending" : "ascending") : "none";
        const name = column.metric && document.getElementById("metric-" + column.metric)
          ? make("a", { href: "#metric-" + column.metric, title: column.meaning }, column.label)
          : make("span", { title: column.meaning || null }, column.label);
        const button = make("button", { type: "button", class: "sort", "aria-label": `Sort by ${column.label}`, onclick: () => {
          state.sort[this.name] = { column: column.name, down: way === "ascending" };
          this.page = 0; this.draw(); writeState();
          const again = this.element.tHead.querySelector(`[data-column="${CSS.escape(column.name)}"] button`);
          if (again) again.focus();
        } }, way === "ascending" ? "▲" : way === "descending" ? "▼" : "↕");
        const cell = make("th", { scope: "col", class: column.number ? "n" : null, "aria-sort": way, "data-column": column.name }, name, button);
        if (column.unit) cell.append(make("span", { class: "unit" }, column.unit));
        return cell;
      });
      this.element.tHead.replaceChildren(make("tr", {}, ...heads));
    }
  }

  // --- live charts: drawn when they come into sight, in the place of the picture
  const charts = new Map();
  const inSight = new Set();
  const narrowed = (rows) => rows.filter((row) => !state.off.hardware.has(known(row.hardware)) && !state.off.quantization.has(known(row.quantization)));
  // What is not known has an entry of its own; a row without the field, such as a roof, always stays.
  function known(value) { return value === null ? "" : value; }
  async function live(figure) {
    const name = figure.dataset.chart;
    const plot = figure.querySelector(".plot");
    if (!data.charts[name] || charts.has(name)) return;
    charts.set(name, null);
    const holder = make("div");
    const spec = structuredClone(data.charts[name]);
    const all = spec.data.values;
    spec.data.values = narrowed(all);
    // The picture has one description; marks without any are drawn faster.
    spec.config = { ...data.config, aria: false };
    spec.usermeta = { embedOptions: {} };
    // `ast` runs expressions through an interpreter: no code is made from text, so the policy stays strict.
    const result = await vegaEmbed(holder, spec, { ast: true, actions: false, renderer: "svg", logLevel: 1, defaultStyle: false, tooltip: tell });
    charts.set(name, { view: result.view, all, shown: selection() });
    const label = plot.querySelector("svg")?.getAttribute("aria-label");
    plot.replaceChildren(holder);
    const drawn = holder.querySelector("svg");
    if (drawn) { drawn.setAttribute("role", "img"); drawn.setAttribute("aria-label", label || figure.querySelector("h3").textContent); fit(drawn); flatten(drawn); }
    reachable(plot, figure.querySelector("h3").textContent);
    const links = make("div", { class: "chart-tools" },
      make("button", { type: "button", "aria-label": `Save ${name} as SVG`, onclick: () => result.view.toSVG().then((text) => save(`${name}.svg`, "image/svg+xml", text)) }, "SVG"),
      make("button", { type: "button", "aria-label": `Save ${name} as PNG`, onclick: () => toPng(result.view, name) }, "PNG"));
    figure.querySelector("figcaption").after(links);
    leftOut(figure);
    refresh(name);
  }
  // A chart of one point, or one that has no mark left, says so instead of looking empty.
  function leftOut(figure) {
    const name = figure.dataset.chart;
    const axes = Object.entries(state.off);
    const only = data.only[name];
    const rows = charts.get(name)?.all.filter((row) => axes.every(([axis]) => axis in row)) ?? [];
    const gone = only ? axes.some(([axis, off]) => off.has(only[axis])) : rows.length > 0 && !narrowed(rows).length;
    if (gone === figure.classList.contains("left-out")) return;
    figure.classList.toggle("left-out", gone);
    if (gone) figure.querySelector("h3").after(make("p", { class: "note left-out-note" }, "Left out: what it shows is not among the devices and number formats chosen."));
    else figure.querySelector(".left-out-note").remove();
  }
  // The picture has one description; parts without one of their own are no pictures for a screen reader.
  function flatten(svg) {
    for (const part of svg.querySelectorAll("[role]")) { part.removeAttribute("role"); part.removeAttribute("aria-roledescription"); }
  }
  function fit(svg) {
    // Vega gives fixed pixels; a view box lets the picture shrink with the page.
    const width = svg.getAttribute("width"), height = svg.getAttribute("height");
    if (!svg.getAttribute("viewBox") && width && height) svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  }
  function toPng(view, name) {
    view.toCanvas(2).then((canvas) => {
      const flat = make("canvas", { width: canvas.width, height: canvas.height });
      const pen = flat.getContext("2d");
      pen.fillStyle = "#ffffff";
      pen.fillRect(0, 0, flat.width, flat.height);
      pen.drawImage(canvas, 0, 0);
      flat.toBlob((blob) => save(`${name}.png`, "image/png", blob));
    });
  }
  // A chart out of sight is brought up to date when it comes into sight: forty at once would take seconds.
  const selection = () => JSON.stringify(Object.values(state.off).map((values) => [...values].sort()));
  function refresh(name) {
    const chart = charts.get(name);
    if (!chart || !inSight.has(name) || chart.shown === selection()) return;
    chart.shown = selection();
    leftOut(document.getElementById(`chart-${name}`));
    chart.view.data("rows", narrowed(chart.all)).runAsync().then((view) => flatten(view.container().querySelector("svg")));
  }
  function refilter() {
    release();
    hint();
    for (const table of tables) { table.page = 0; table.stale = true; }
    follow();
    for (const name of Object.keys(data.only)) leftOut(document.getElementById(`chart-${name}`));
  }
  // What is in sight follows one by one, a frame each, what stands in the middle first: all of it at once
  // would keep a reader waiting for the first.
  let waiting = [], coming = 0;
  function follow() {
    const middle = innerHeight / 2;
    const away = (element) => {
      const { top, bottom } = element.getBoundingClientRect();
      return Math.max(0, top - middle, middle - bottom);
    };
    waiting = [...tables.filter((table) => table.inSight).map((table) => [table.element, () => table.redraw()]),
      ...[...inSight].map((name) => [document.getElementById("chart-" + name), () => refresh(name)])]
      .map(([element, bring]) => [away(element), bring]).sort((a, b) => a[0] - b[0]).map(([, bring]) => bring);
    waiting.push(writeState);
    step();
  }
  function step() {
    cancelAnimationFrame(coming);
    waiting.shift()?.();
    if (waiting.length) document.documentElement.dataset.busy = "yes"; else delete document.documentElement.dataset.busy;
    // The frame after the next: the next one shows what was just brought up to date.
    coming = waiting.length ? requestAnimationFrame(() => { coming = requestAnimationFrame(step); }) : 0;
  }
  function hint() {
    const place = document.querySelector(".filters .hint");
    const off = state.off.hardware.size + state.off.quantization.size;
    if (place) place.textContent = off ? "Charts and tables are narrowed; the answer above is not." : "";
  }

  // --- what a mark says: on hover, kept by a click or by the arrow keys, released by Escape
  const tip = make("div", { id: "tip", role: "status" });
  let pinned = null;
  document.body.append(tip);
  function tell(handler, event, item, value) {
    if (event.type === "click") return;
    if (pinned) return;
    if (value === null || value === undefined || value === "") tip.classList.remove("visible");
    else say(value, event.clientX, event.clientY);
  }
  function say(value, x, y) {
    const lines = typeof value === "object" ? Object.entries(value) : [["", value]];
    tip.replaceChildren(make("table", {}, make("tbody", {}, ...lines.map(([key, text]) =>
      make("tr", {}, make("th", { scope: "row" }, key), make("td", {}, String(text)))))));
    tip.classList.add("visible");
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - width - 4)) + "px";
    tip.style.top = Math.max(4, y + 14 + height > innerHeight ? y - height - 10 : y + 14) + "px";
  }
  function pin(mark) {
    release();
    const box = mark.getBoundingClientRect();
    pinned = mark;
    mark.classList.add("pinned");
    say(mark.__data__.tooltip, box.x + box.width / 2, box.y + box.height / 2);
    tip.classList.add("kept");
    tip.append(make("button", { type: "button", class: "release", "aria-label": "Close", onclick: release }, "×"));
  }
  function release() {
    pinned?.classList.remove("pinned");
    pinned = null;
    tip.classList.remove("visible", "kept");
  }
  const spoken = (plot) => [...plot.querySelectorAll(".role-mark path, .role-mark rect, .role-mark text")].filter((mark) => mark.__data__?.tooltip);
  function reachable(plot, title) {
    for (const [name, value] of [["tabindex", "0"], ["role", "group"], ["aria-label", `${title}: arrow keys walk through the marks, Escape ends`]]) plot.setAttribute(name, value);
    plot.addEventListener("click", (event) => {
      const mark = event.target.closest?.(".role-mark path, .role-mark rect, .role-mark text");
      if (mark?.__data__?.tooltip) { if (mark === pinned) release(); else pin(mark); } else release();
    });
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      const marks = spoken(plot);
      if (!marks.length) return;
      event.preventDefault();
      const at = marks.indexOf(pinned);
      pin(marks[at < 0 ? (step > 0 ? 0 : marks.length - 1) : (at + step + marks.length) % marks.length]);
    });
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") release(); });
  // A kept box stands beside its mark, which moves with the page.
  document.addEventListener("scroll", release, { capture: true, passive: true });

  // --- start
  readState();
  const tables = [...document.querySelectorAll("table.live")].filter((t) => data.tables[t.dataset.table]).map((t) => new LiveTable(t, t.dataset.table));
  for (const set of document.querySelectorAll(".filters fieldset")) {
    const axis = set.dataset.filter;
    for (const box of set.querySelectorAll("input")) {
      box.checked = !state.off[axis].has(box.value);
      box.addEventListener("change", () => { if (box.checked) state.off[axis].delete(box.value); else state.off[axis].add(box.value); refilter(); });
    }
  }
  document.querySelector("form.filters")?.addEventListener("reset", () => setTimeout(() => { state.off.hardware.clear(); state.off.quantization.clear(); refilter(); }));
  hint();
  const watch = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target, boundingClientRect } of seen) {
      const name = target.dataset.chart;
      // Out of sight it is neither laid out nor painted, and takes the room it had.
      if (!target.dataset.sized) {
        target.style.containIntrinsicBlockSize = `auto ${boundingClientRect.height}px`;
        target.dataset.sized = "yes";
      }
      if (!isIntersecting) { inSight.delete(name); continue; }
      inSight.add(name);
      if (charts.has(name)) refresh(name); else live(target);
    }
  }, { rootMargin: "150px" });
  for (const figure of document.querySelectorAll("figure.chart")) watch.observe(figure);
  const lists = new Map(tables.map((table) => [table.element.closest(".scroll"), table]));
  const watchLists = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) {
      const table = lists.get(target);
      table.inSight = isIntersecting;
      if (isIntersecting) table.redraw();
    }
  }, { rootMargin: "150px" });
  for (const element of lists.keys()) watchLists.observe(element);
  const target = location.hash.split("?")[0];
  if (target.length > 1 && location.hash.includes("?")) document.querySelector(target)?.scrollIntoView();
  document.documentElement.dataset.ready = "yes";
})();
