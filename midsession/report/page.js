"use strict";
// Draws the picture from the data in this file. Texts are only ever set as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const place = document.getElementById("picture");
  const NAMES = 116, RIGHT = 14, TOP = 34, CHART = 46, GAP = 18;
  const all = [0, data.end];
  let seen = all;

  const make = (parent, kind, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", kind);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    parent.appendChild(node);
    return node;
  };
  const time = (us) => {
    const width = seen[1] - seen[0];
    if (width < 2e3) return `${us.toLocaleString("en")} µs`;
    if (width < 2e6) return `${(us / 1e3).toFixed(width < 2e4 ? 2 : width < 2e5 ? 1 : 0)} ms`;
    return `${(us / 1e6).toFixed(width < 2e7 ? 1 : 0)} s`;
  };
  const exact = (us) => `${(us / 1e6).toFixed(6)} s`;
  const step = (width) => {
    const rough = width / 8, power = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  };

  function draw() {
    place.replaceChildren();
    const width = Math.max(480, place.clientWidth - 20), plot = width - NAMES - RIGHT;
    const row = data.clients.length > 80 ? 9 : data.clients.length > 30 ? 12 : 18;
    const x = (us) => NAMES + ((us - seen[0]) / (seen[1] - seen[0])) * plot;
    const inside = (us) => Math.min(Math.max(us, seen[0]), seen[1]);
    const perSecond = data.replies.map((n) => Math.round((n * 1e6) / data.bin));
    const charts = [
      ["connected", "connected", data.connected, (n) => n.toLocaleString("en")],
      ["replies", "replies/s", perSecond, (n) => n.toLocaleString("en")],
      ["slowest", "slowest reply", data.slowest, (us) => (us >= 1000 ? `${(us / 1000).toFixed(1)} ms` : `${us} µs`)],
    ].filter(([, , values]) => values.some((n) => n > 0));
    const lanesTop = TOP + charts.length * (CHART + GAP);
    const height = lanesTop + data.services.length * 22 + 8 + data.clients.length * row + 8;
    const svg = make(place, "svg", { width, height, role: "img", "aria-label": "sessions over time" });

    for (const [, , from, to, fault] of data.bands) {
      if (!fault || to <= from || to < seen[0] || from > seen[1]) continue;
      const left = x(inside(from));
      make(svg, "rect", { class: "fault", x: left, y: TOP - 4, width: x(inside(to)) - left, height: height - TOP });
    }

    const every = step(seen[1] - seen[0]);
    for (let us = Math.ceil(seen[0] / every) * every; us <= seen[1]; us += every) {
      make(svg, "line", { class: "grid", x1: x(us), x2: x(us), y1: TOP - 6, y2: height });
      make(svg, "text", { class: "mid", x: x(us), y: TOP - 10 }, time(us));
    }

    charts.forEach(([name, title, values, words], i) => {
      const top = TOP + i * (CHART + GAP), most = Math.max(...values), y = (n) => top + CHART - (n / most) * (CHART - 4);
      make(svg, "text", { class: "name title", x: NAMES - 8, y: top + 14 }, title);
      make(svg, "text", { class: "name", x: NAMES - 8, y: top + 28 }, `max ${words(most)}`);
      let path = "";
      values.forEach((n, at) => {
        const from = at * data.bin, to = from + data.bin;
        if (to < seen[0] || from > seen[1]) return;
        const left = x(inside(from)), right = x(inside(to));
        path += `${path ? "L" : `M${left},${top + CHART}L`}${left},${y(n)}L${right},${y(n)}`;
        if (to >= seen[1] || at === values.length - 1) path += `L${right},${top + CHART}Z`;
      });
      if (path) make(svg, "path", { class: `area ${name}`, d: path });
    });

    const lane = ([name, outcome, segments, marks], top, tall, label) => {
      const group = make(svg, "g", {});
      if (label) make(group, "text", { class: "name", x: NAMES - 8, y: top + tall / 2 + 4 }, name.length > 17 ? `${name.slice(0, 16)}…` : name);
      make(group, "title", {}, `${name}: ${outcome}`);
      for (const [state, from, to] of segments) {
        if (to < seen[0] || from > seen[1]) continue;
        const left = x(inside(from)), right = x(inside(to));
        const bar = make(group, "rect", { class: state, x: left, y: top + 1, width: Math.max(right - left, 0.8), height: tall - 2 });
        make(bar, "title", {}, `${name}: ${state}\n${exact(from)} to ${exact(to)}`);
      }
      for (const [kind, at, text] of marks) {
        if (at < seen[0] || at > seen[1]) continue;
        const tick = make(group, "line", { class: `tick ${kind}`, x1: x(at), x2: x(at), y1: top, y2: top + tall });
        make(tick, "title", {}, `${name}: ${text}\n${exact(at)}`);
      }
    };
    data.services.forEach((service, i) => lane(service, lanesTop + i * 22, 18, true));
    const top = lanesTop + data.services.length * 22 + 8, labels = Math.ceil(12 / row);
    data.clients.forEach((client, i) => lane(client, top + i * row, row - 1, i % labels === 0));

    let last = -1e9;
    for (const [id, label, from, to, fault] of data.bands) {
      if (from < seen[0] || from > seen[1]) continue;
      const left = x(from), crowded = left - last < 60;
      make(svg, "line", { class: fault ? "edge" : "edge step", x1: left, x2: left, y1: TOP - 20, y2: height });
      const note = make(svg, "text", { class: "step", x: left + 3, y: crowded ? TOP + 2 : 11 }, id);
      if (left > width - 70) { note.setAttribute("text-anchor", "end"); note.setAttribute("x", left - 3); }
      make(note, "title", {}, `${id}: ${label}\n${exact(from)}`);
      if (!crowded) last = left;
    }

    const when = (event) => seen[0] + ((event.clientX - svg.getBoundingClientRect().left - NAMES) / plot) * (seen[1] - seen[0]);
    svg.addEventListener("pointerdown", (down) => {
      const from = inside(when(down));
      const shade = make(svg, "rect", { class: "drag", x: x(from), y: TOP, width: 0, height });
      const move = (event) => {
        const to = inside(when(event));
        shade.setAttribute("x", x(Math.min(from, to)));
        shade.setAttribute("width", Math.abs(x(to) - x(from)));
      };
      const up = (event) => {
        window.removeEventListener("pointermove", move);
        const to = inside(when(event)), low = Math.min(from, to), high = Math.max(from, to);
        shade.remove();
        if (x(high) - x(low) > 5 && high - low > 10) { seen = [low, high]; draw(); }
      };
      window.addEventListener("pointermove", move);
      window.addEventListener("pointerup", up, { once: true });
      down.preventDefault();
    });
    svg.addEventListener("dblclick", () => { seen = all; draw(); });
  }

  let frame = 0;
  window.addEventListener("resize", () => { cancelAnimationFrame(frame); frame = requestAnimationFrame(draw); });
  draw();
})();
