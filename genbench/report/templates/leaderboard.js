"use strict";

// The state of the page is kept behind the # of its address, as name=value pairs, so that a link shows the same view.
// Without this script the page shows every column, and help, cards and metrics are ordinary links.
const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
const state = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");

function keep(name, value, standard) {
  if (value === standard) state.delete(name);
  else state.set(name, value);
  const text = state.toString();
  if (!text && !location.hash.includes("=")) return; // a link to a part of the page stays
  history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
}

// --- the table: sorting, columns, filter

function tableOf(section, number) {
  const table = section.querySelector("table.board");
  const heads = Array.from(table.tHead.rows[0].cells);
  const body = table.querySelector("tbody.models");
  const standard = heads.find((head) => ["ascending", "descending"].includes(head.getAttribute("aria-sort")));
  const first = table.dataset.first;
  const key = (name) => (number === 1 ? name : `${name}${number}`);
  const word = (head, direction) => `${head.dataset.metric}:${direction}`;
  const usual = standard ? word(standard, standard.getAttribute("aria-sort")) : "";

  function sort(head, direction) {
    const place = head.cellIndex;
    const sign = direction === "ascending" ? 1 : -1;
    const isText = head.dataset.better === "text";
    const rows = Array.from(body.rows, (row) => [row.cells[place].dataset.order ?? "", row]);
    rows.sort(([x], [y]) => {
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (isText ? x.localeCompare(y) : x - y);
    });
    body.append(...rows.map(([, row]) => row));
    for (const cell of heads) {
      if (cell.hasAttribute("aria-sort")) cell.setAttribute("aria-sort", cell === head ? direction : "none");
    }
  }

  function sortNext(head) {
    const good = head.dataset.better === "higher" ? "descending" : "ascending";
    const other = good === "ascending" ? "descending" : "ascending";
    const direction = head.getAttribute("aria-sort") === good ? other : good;
    sort(head, direction);
    keep(key("sort"), word(head, direction), usual);
  }

  function show(metrics) {
    const hidden = heads.map((head, place) => place > 0 && !metrics.includes(head.dataset.metric));
    for (const row of table.rows) {
      if (row.cells.length === heads.length) hidden.forEach((is, place) => { row.cells[place].hidden = is; });
    }
    for (const box of all(".columns input[value]", section)) box.checked = metrics.includes(box.value);
    for (const whole of all(".columns .whole", section)) {
      const boxes = all("input[value]", whole.closest("fieldset"));
      const on = boxes.filter((box) => box.checked).length;
      whole.checked = on === boxes.length;
      whole.indeterminate = on > 0 && on < boxes.length;
    }
  }

  function chosen() {
    const on = new Set(all(".columns input[value]", section).filter((box) => box.checked).map((box) => box.value));
    return heads.map((head) => head.dataset.metric).filter((metric) => on.has(metric));
  }

  function filter() {
    const text = section.querySelector(".filter").value.trim().toLowerCase();
    const boxes = all(".families input", section);
    const off = boxes.filter((box) => !box.checked).map((box) => box.value);
    let shown = 0;
    for (const row of body.rows) {
      row.hidden = off.includes(row.dataset.family) || !row.cells[0].textContent.toLowerCase().includes(text);
      shown += !row.hidden;
    }
    section.querySelector(".count").textContent = shown < body.rows.length ? `${shown} of ${body.rows.length} models` : "";
    keep(key("filter"), text, "");
    keep(key("without"), off.join(","), "");
  }

  function restore() {
    const [metric, direction] = (state.get(key("sort")) ?? usual).split(":");
    const head = heads.find((cell) => cell.dataset.metric === metric && cell.hasAttribute("aria-sort"));
    if (head) sort(head, direction === "descending" ? "descending" : "ascending");
    show((state.get(key("columns")) ?? first.replaceAll(" ", ",")).split(","));
    section.querySelector(".filter").value = state.get(key("filter")) ?? "";
    const off = (state.get(key("without")) ?? "").split(",");
    for (const box of all(".families input", section)) box.checked = !off.includes(box.value);
    filter();
  }

  for (const head of heads) head.querySelector("button.sort")?.addEventListener("click", () => sortNext(head));
  section.querySelector(".columns").addEventListener("change", (event) => {
    if (event.target.matches(".whole")) {
      for (const box of all("input[value]", event.target.closest("fieldset"))) box.checked = event.target.checked;
    }
    show(chosen());
    keep(key("columns"), chosen().join(","), first.replaceAll(" ", ","));
  });
  section.querySelector(".filter").addEventListener("input", filter);
  for (const box of all(".families input", section)) box.addEventListener("change", filter);
  section.querySelector(".reset").addEventListener("click", () => {
    for (const name of ["sort", "columns", "filter", "without"]) state.delete(key(name));
    restore();
  });
  section.querySelector(".tools").hidden = false;
  restore();
}

// --- the plot: other axes. Every value's place on its scale is in the data, so nothing is computed here but pixels.

function better(one, other, sign) {
  const [, , , a, aLow, aHigh, aKind] = one;
  const [, , , b, bLow, bHigh, bKind] = other;
  if (aKind !== bKind && bKind !== "mass") return false;
  const gap = sign * (b - a);
  const [near, far] = sign > 0 ? [aHigh, bLow] : [aLow, bHigh];
  return gap > 0 && gap ** 2 > (near - a) ** 2 + (far - b) ** 2;
}

function plotOf(figure, number) {
  const svg = figure.querySelector("svg.plot");
  const { metrics, models, area: [left, top, right, bottom], offsets } = JSON.parse(svg.dataset.plot);
  const [ySelect, xSelect] = [figure.querySelector("select.y"), figure.querySelector("select.x")];
  const marks = all(".mark", svg);
  const standard = [xSelect.value, ySelect.value];
  const across = (place) => left + place * (right - left);
  const down = (place) => bottom - place * (bottom - top);
  const key = (name) => (number === 1 ? name : `${name}${number}`);
  const template = svg.querySelector(".tick");
  const said = figure.querySelector(".said");

  function ticks(axis, metric) {
    all(`.tick.${axis}`, svg).forEach((tick) => tick.remove());
    for (const [place, label] of metrics[metric].ticks) {
      const tick = template.cloneNode(true);
      const [line, text] = [tick.querySelector("line"), tick.querySelector("text")];
      tick.setAttribute("class", `tick ${axis}`);
      text.textContent = label;
      const at = axis === "x" ? across(place) : down(place);
      set(line, axis === "x" ? { x1: at, x2: at, y1: top, y2: bottom } : { x1: left, x2: right, y1: at, y2: at });
      set(text, axis === "x" ? { x: at, y: bottom + 16, "text-anchor": "middle" } : { x: left - 6, y: at + 4, "text-anchor": "end" });
      svg.prepend(tick);
    }
  }

  function set(element, attributes) {
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  }

  function front(x, y) {
    const [xs, ys] = [metrics[x].better, metrics[y].better].map((word) => (word === "lower" ? 1 : -1));
    const names = metrics[x].ranked.filter((name) => metrics[y].ranked.includes(name));
    const beats = (b, a) => {
      const sides = [[x, xs], [y, ys]];
      return sides.some(([m, sign]) => better(models[b][m], models[a][m], sign))
        && !sides.some(([m, sign]) => better(models[a][m], models[b][m], sign));
    };
    return new Set(names.filter((a) => !names.some((b) => b !== a && beats(b, a))));
  }

  function labels(shown, best, real) {
    const overlap = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
    const taken = shown.map(([, x, y]) => [x - 7, y - 7, x + 7, y + 7]);
    if (real !== null) taken.push([right - 104, down(real) - 16, right, down(real)]);
    const order = [...shown].sort(([a], [b]) => best.has(b.dataset.model) - best.has(a.dataset.model));
    const free = (box) => box[0] >= left && box[2] <= 600 && box[1] >= 0 && box[3] <= bottom
      && !taken.some((other) => overlap(box, other));
    const waiting = new Set(order);
    for (const [mark] of order) {
      for (const part of ["text", ".leader"]) mark.querySelector(part).setAttribute("visibility", "hidden");
    }
    for (const [far, places] of offsets.entries()) {
      for (const entry of waiting) {
        const [mark, x, y] = entry;
        const [text, leader] = [mark.querySelector("text"), mark.querySelector(".leader")];
        const width = text.getComputedTextLength();
        const box = ([dx, dy, anchor]) => {
          const from = x + dx - { start: 0, middle: width / 2, end: width }[anchor];
          return [from, y + dy - 10, from + width, y + dy + 3];
        };
        const found = places.find((place) => free(box(place)));
        if (!found) continue;
        const [dx, dy, anchor] = found;
        set(text, { x: x + dx, y: y + dy, "text-anchor": anchor, visibility: "inherit" });
        set(leader, { x1: x, y1: y, x2: x + dx, y2: y + dy - 4, visibility: far ? "inherit" : "hidden" });
        taken.push(box(found));
        waiting.delete(entry);
      }
    }
  }

  function draw() {
    const [x, y] = [xSelect.value, ySelect.value];
    const unranked = [x, y].filter((m) => metrics[m].ranked.length === 0);
    const best = front(x, y);
    ticks("x", x);
    ticks("y", y);
    svg.querySelector(".axis-x").textContent = metrics[x].title;
    svg.setAttribute("aria-label", `${metrics[y].title} against ${metrics[x].title}`);
    const reference = svg.querySelector(".reference");
    const real = metrics[y].real;
    reference.setAttribute("visibility", real === null ? "hidden" : "visible");
    if (real !== null) {
      set(reference.querySelector("line"), { y1: down(real), y2: down(real) });
      set(reference.querySelector("text"), { y: down(real) - 5 });
    }
    const shown = [];
    for (const mark of marks) {
      const [mx, my] = [models[mark.dataset.model][x], models[mark.dataset.model][y]];
      mark.classList.toggle("front", best.has(mark.dataset.model));
      mark.setAttribute("visibility", mx && my ? "visible" : "hidden");
      if (!mx || !my) continue;
      const [px, py] = [across(mx[0]), down(my[0])];
      set(mark.querySelector(".across"), { x1: across(mx[1]), x2: across(mx[2]), y1: py, y2: py });
      set(mark.querySelector(".along"), { x1: px, x2: px, y1: down(my[1]), y2: down(my[2]) });
      mark.querySelector("path").setAttribute("transform", `translate(${px} ${py})`);
      mark.setAttribute("aria-label", `${mark.dataset.model}: ${my[7]}, ${mx[7]}`);
      shown.push([mark, px, py]);
    }
    labels(shown, best, real);
    figure.querySelector(".meaning").textContent = unranked.length
      ? `No front is drawn, because ${unranked.map((m) => metrics[m].name).join(" and ")} is not ranked here.`
      : "Filled: no other model is better in one of the two and not worse in the other, beyond the intervals.";
  }

  function restore() {
    const known = (name, select, usual) => (metrics[state.get(key(name))] ? state.get(key(name)) : usual);
    xSelect.value = known("x", xSelect, standard[0]);
    ySelect.value = known("y", ySelect, standard[1]);
    if (xSelect.value !== standard[0] || ySelect.value !== standard[1]) draw();
  }

  for (const [name, select, usual] of [["x", xSelect, standard[0]], ["y", ySelect, standard[1]]]) {
    select.addEventListener("change", () => { draw(); keep(key(name), select.value, usual); });
  }
  // One stop of the tab key for all points; arrow keys go from point to point.
  marks.forEach((mark, place) => {
    mark.setAttribute("tabindex", place ? "-1" : "0");
    for (const kind of ["mouseenter", "focus"]) {
      mark.addEventListener(kind, () => { said.textContent = mark.getAttribute("aria-label"); });
    }
    mark.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const seen = marks.filter((other) => other.getAttribute("visibility") !== "hidden");
      const next = seen[(seen.indexOf(mark) + step + seen.length) % seen.length];
      mark.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  });
  figure.querySelector(".choose").hidden = false;
  all(".axes .fixed", figure).forEach((part) => { part.hidden = true; });
  restore();
}

// --- help of a metric: its section, in a box beside the "?", on focus, hover, click and touch

const box = document.getElementById("help");
let pinned = null;

function openHelp(link) {
  const section = document.getElementById(link.hash.slice(1));
  box.replaceChildren(section.querySelector("h3").cloneNode(true), section.querySelector(".brief").cloneNode(true));
  if (!box.matches(":popover-open")) box.showPopover();
  const place = link.getBoundingClientRect();
  box.style.left = `${Math.max(8, Math.min(place.left, innerWidth - box.offsetWidth - 8))}px`;
  const below = place.bottom + 8;
  box.style.top = `${Math.max(8, below + box.offsetHeight > innerHeight ? innerHeight - box.offsetHeight - 8 : below)}px`;
}

function closeHelp() {
  pinned = null;
  if (box.matches(":popover-open")) box.hidePopover();
}

function helpOf(link) {
  link.setAttribute("aria-describedby", "help");
  link.addEventListener("mouseenter", () => { if (!pinned) openHelp(link); });
  link.addEventListener("focus", () => openHelp(link));
  link.addEventListener("mouseleave", () => { if (!pinned && document.activeElement !== link) closeHelp(); });
  link.addEventListener("blur", () => { if (pinned !== link) closeHelp(); });
  link.addEventListener("click", (event) => {
    event.preventDefault();
    if (pinned === link) return closeHelp();
    pinned = link;
    openHelp(link);
  });
}

if (HTMLElement.prototype.showPopover) {
  all("a.help").forEach(helpOf);
  addEventListener("keydown", (event) => { if (event.key === "Escape") closeHelp(); });
  document.addEventListener("click", (event) => {
    if (!event.target.closest("a.help, #help")) closeHelp();
  });
}

// --- two models side by side

function compareOf(part, dataset) {
  const [one, other] = [part.querySelector(".one"), part.querySelector(".other")];
  const cards = all(".card", dataset);
  const table = dataset.querySelector("table.board");
  const heads = Array.from(table.tHead.rows[0].cells);
  const rowOf = (name) => Array.from(table.rows).find((row) => row.cells[0].dataset.order === name);
  if (other.options.length > 1) other.selectedIndex = 1;

  function column(select) {
    const card = cards[select.selectedIndex];
    const grid = card.querySelector(".grid")?.cloneNode(true) ?? document.createElement("figure");
    const title = document.createElement("strong");
    title.textContent = card.dataset.name;
    grid.prepend(title);
    return grid;
  }

  function numbers() {
    const values = document.createElement("table");
    const rows = [one, other].map((select) => rowOf(cards[select.selectedIndex].dataset.name));
    const line = (texts) => {
      const row = values.insertRow();
      texts.forEach((text, place) => {
        const cell = document.createElement(place ? "td" : "th");
        cell.textContent = text;
        row.append(cell);
      });
    };
    line(["", ...[one, other].map((select) => cards[select.selectedIndex].dataset.name)]);
    heads.forEach((head, place) => {
      if (!place) return;
      const texts = rows.map((row) => row.cells[place].cloneNode(true)).map((cell) => {
        cell.querySelector("svg")?.remove();
        return cell.textContent.trim().replace("±", " ±");
      });
      line([head.querySelector(".sort").textContent, ...texts]);
    });
    return values;
  }

  part.querySelector(".show").addEventListener("click", () => {
    part.querySelector(".side").replaceChildren(column(one), column(other), numbers());
  });
  part.hidden = false;
}

// --- datasets as tabs

function tabsOf(list) {
  const tabs = all("[role=tab]", list);
  const select = (tab) => {
    for (const each of tabs) {
      each.setAttribute("aria-selected", each === tab);
      each.tabIndex = each === tab ? 0 : -1;
      document.getElementById(each.getAttribute("aria-controls")).hidden = each !== tab;
    }
  };
  tabs.forEach((tab, place) => {
    tab.addEventListener("click", () => { select(tab); keep("dataset", String(place + 1), "1"); });
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) { const next = tabs[(place + step + tabs.length) % tabs.length]; next.focus(); next.click(); }
    });
  });
  const reveal = () => {
    const target = location.hash.includes("=") ? null : document.getElementById(location.hash.slice(1));
    const panel = target?.closest(".dataset");
    if (panel?.hidden) { select(tabs.find((tab) => tab.getAttribute("aria-controls") === panel.id)); target.scrollIntoView(); }
  };
  list.hidden = false;
  select(tabs[Number(state.get("dataset") ?? "1") - 1] ?? tabs[0]);
  reveal();
  addEventListener("hashchange", reveal);
}

all(".dataset").forEach((dataset, place) => {
  tableOf(dataset.querySelector("section[id^=scores]"), place + 1);
  all("figure.against", dataset).forEach((figure) => plotOf(figure, place + 1));
  all(".compare", dataset).forEach((part) => compareOf(part, dataset));
});
all(".tabs").forEach(tabsOf);

// On paper the notes under the table are open; protocols are left out there.
addEventListener("beforeprint", () => all("details.notes").forEach((part) => { part.open = true; }));
