// Filtering, sorting, ticking and refreshing on top of a list that is complete without them.
"use strict";
(() => {
  const body = document.getElementById("rows");
  const served = document.body.classList.contains("served");
  const state = { find: "", sort: "", choices: {} };
  // Laying out a thousand rows takes longer than anybody looks at them.
  const STEP = 200;
  let most = STEP;
  for (const element of document.querySelectorAll(".script-only")) element.hidden = false;
  const allRows = () => [...body.rows];

  // --- state in the address, so that a view can be sent to somebody
  function readState() {
    const found = new URLSearchParams(location.hash.slice(1));
    state.find = found.get("find") || "";
    state.sort = found.get("sort") || "";
    for (const select of selects) {
      const known = [...select.options].some((option) => option.value === found.get(select.dataset.field));
      state.choices[select.dataset.field] = known ? found.get(select.dataset.field) : "";
      select.value = state.choices[select.dataset.field];
    }
    search.value = state.find;
  }
  function writeState() {
    const kept = new URLSearchParams();
    if (state.find) kept.set("find", state.find);
    if (state.sort) kept.set("sort", state.sort);
    for (const [field, value] of Object.entries(state.choices)) if (value) kept.set(field, value);
    history.replaceState(null, "", "#" + kept.toString());
  }

  // --- filter and order
  const texts = new WeakMap();
  function textOf(row) {
    if (!texts.has(row)) {
      const { kinds, devices, models, tags } = row.dataset;
      texts.set(row, [row.textContent, kinds, devices, models, tags].join(" ").toLowerCase());
    }
    return texts.get(row);
  }
  function filter() {
    const words = state.find.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = Object.entries(state.choices).filter(([, value]) => value);
    const found = allRows().filter((row) => words.every((word) => textOf(row).includes(word))
      && wanted.every(([field, value]) => row.dataset[field].split("\n").includes(value)));
    const seen = new Set(found.slice(0, most));
    for (const row of body.rows) row.hidden = !seen.has(row);
    const all = body.rows.length;
    const number = (count) => count.toLocaleString("en-US");
    document.getElementById("shown").textContent = found.length === all ? "" : `${number(found.length)} of ${number(all)} found`;
    const more = document.getElementById("more");
    more.hidden = found.length <= most;
    more.textContent = `Show ${number(Math.min(STEP, found.length - most))} more of ${number(found.length)}`;
    ticked();
  }
  function order() {
    const down = state.sort.startsWith("-");
    const column = state.sort.replace(/^-/, "");
    const heads = [...document.querySelectorAll(".runs thead th")];
    for (const head of heads) if (head.dataset.column) head.setAttribute("aria-sort", head.dataset.column !== column ? "none" : down ? "descending" : "ascending");
    const at = heads.findIndex((head) => head.dataset.column === column);
    const number = column === "points";
    const key = (row) => { const text = at < 0 ? row.dataset.place : row.cells[at].dataset.key; return number || at < 0 ? (text === "" ? null : Number(text)) : text; };
    const keyed = allRows().map((row) => [key(row), row]);
    keyed.sort(([a, one], [b, other]) => {
      // What is unknown stands last either way.
      const gone = (a === null || a === "") - (b === null || b === "");
      const less = typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en");
      return gone || (down ? -less : less) || one.dataset.place - other.dataset.place;
    });
    const rows = keyed.map(([, row]) => row);
    if (rows.every((row, i) => row === body.rows[i])) return;
    // A row that is moved loses the focus in it.
    const focused = document.activeElement;
    body.append(...rows);
    if (body.contains(focused)) focused.focus({ preventScroll: true });
  }
  function addSorting() {
    for (const head of document.querySelectorAll(".runs thead th[data-column]")) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.textContent = "↕";
      button.setAttribute("aria-label", `Sort by ${head.textContent}`);
      button.addEventListener("click", () => {
        const column = head.dataset.column;
        state.sort = state.sort === column ? "-" + column : column;
        order();
        filter();
        writeState();
      });
      head.append(" ", button);
    }
  }

  // --- ticks
  function ticked() {
    const button = document.getElementById("compare");
    if (!button) return;
    const count = body.querySelectorAll("input:checked").length;
    button.disabled = count < 2;
    const away = [...body.querySelectorAll("input:checked")].filter((box) => box.closest("tr").hidden).length;
    document.getElementById("ticked").textContent = count < 2 ? (count ? "Tick one more." : "Tick two or more.") : `${count} runs${away ? `, ${away} of them filtered away` : ""}.`;
  }

  // --- a run that goes on: only rows that changed are asked for
  async function parsed(address) {
    const answer = await fetch(address, { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    return answer;
  }
  async function refreshList() {
    const { rows, counts } = await (await parsed("stamps.json")).json();
    const known = new Map(allRows().map((row) => [row.dataset.id, row]));
    const changed = rows.filter(([id, stamp]) => known.get(id)?.dataset.stamp !== stamp).map(([id]) => id);
    const gone = [...known.keys()].filter((id) => !rows.some(([other]) => other === id));
    for (let i = 0; i < changed.length; i += 50) {
      const query = new URLSearchParams(changed.slice(i, i + 50).map((id) => ["run", id]));
      const text = await (await parsed("rows?" + query)).text();
      const made = new DOMParser().parseFromString(`<table><tbody>${text}</tbody></table>`, "text/html");
      for (const row of [...made.querySelectorAll("tr")]) put(row, known.get(row.dataset.id));
    }
    for (const id of gone) known.get(id).remove();
    rows.forEach(([id], i) => { const row = document.getElementById("run-" + id); if (row) row.dataset.place = i; });
    if (changed.length || gone.length) {
      document.getElementById("counts").textContent = counts;
      order();
      filter();
    }
  }
  function put(row, old) {
    const made = document.importNode(row, true);
    if (!old) { body.append(made); return; }
    const boxes = [old.querySelector("input"), made.querySelector("input")];
    if (boxes[0] && boxes[1]) boxes[1].checked = boxes[0].checked;
    const place = [...old.querySelectorAll("a, input")].indexOf(document.activeElement);
    old.replaceWith(made);
    if (place >= 0) made.querySelectorAll("a, input")[place]?.focus();
  }
  async function refreshRun(part) {
    const { rows } = await (await parsed("../../stamps.json")).json();
    const found = rows.find(([id]) => id === part.dataset.id);
    if (!found || found[1] === part.dataset.stamp) return;
    const made = new DOMParser().parseFromString(await (await parsed("index.html")).text(), "text/html").getElementById("live");
    if (made) part.replaceWith(document.importNode(made, true));
  }
  function keepFresh(refresh, isRunning) {
    const again = async () => {
      let pause = isRunning() ? 2000 : 5000;
      if (!document.hidden) try { await refresh(); } catch { pause = 15000; }
      setTimeout(again, pause);
    };
    setTimeout(again, isRunning() ? 2000 : 5000);
  }

  // --- start
  const search = document.getElementById("find");
  const selects = [...document.querySelectorAll("select[data-field]")];
  if (body) {
    allRows().forEach((row, i) => { row.dataset.place = i; });
    addSorting();
    readState();
    search.addEventListener("input", () => { state.find = search.value; most = STEP; filter(); writeState(); });
    for (const select of selects) select.addEventListener("change", () => { state.choices[select.dataset.field] = select.value; most = STEP; filter(); writeState(); });
    document.getElementById("clear").addEventListener("click", () => {
      state.find = "";
      for (const select of selects) state.choices[select.dataset.field] = "";
      writeState();
      readState();
      filter();
    });
    document.getElementById("more").addEventListener("click", () => {
      most += STEP;
      filter();
      // The button may be gone now: go on reading at the first new row.
      [...body.rows].filter((row) => !row.hidden)[most - STEP]?.querySelector(".open").focus();
    });
    // Enter in the search field must not lead away.
    search.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
    body.addEventListener("change", ticked);
    order();
    filter();
    if (served) keepFresh(refreshList, () => Boolean(body.querySelector("tr[data-state=running]")));
  } else if (served && document.getElementById("live")) {
    keepFresh(() => refreshRun(document.getElementById("live")), () => true);
  }
  document.documentElement.dataset.ready = "yes";
})();
