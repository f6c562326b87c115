// On paper nothing is folded but the record of the run. The maps' pictures can be pointed at; without this script
// they stay pictures.
"use strict";
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details:not(#run ~ details)")) folded.open = true;
});
if (document.getElementById("embedding-viewer")) (() => {
  const viewer = JSON.parse(document.getElementById("embedding-viewer").textContent);
  const sheet = document.getElementById("sheet");
  const GRID = 1000, MARGIN = 14, NEAR = 18, UNKNOWN = -1; // steps of a map's side; pixels
  const colour = number => getComputedStyle(document.documentElement).getPropertyValue(`--c${number}`);
  const PALE = 8, RIGHT = 0, WRONG = 4, PARTS = 8; // numbers of colours; so many differ

  const element = (name, more = {}, ...inside) => {
    const made = Object.assign(document.createElement(name), more);
    made.append(...inside);
    return made;
  };

  const choice = (label, names) => {
    const select = element("select", {}, ...names.map(name => element("option", { value: name }, name)));
    return [element("label", {}, `${label} `, select), select];
  };

  for (const box of document.querySelectorAll(".map")) {
    const name = box.dataset.target, target = viewer.targets[name], marks = viewer.marks[name];
    const parts = [...new Set(viewer.parts)].sort();
    // By each way to colour, what a mark is: the number of a row of the legend, [name, colour, outline].
    const circle = "M0.5 0A0.5 0.5 0 1 0 -0.5 0A0.5 0.5 0 1 0 0.5 0Z";
    const cross = "M-0.5 -0.3L-0.3 -0.5L0 -0.2L0.3 -0.5L0.5 -0.3L0.2 0L0.5 0.3L0.3 0.5L0 0.2L-0.3 0.5L-0.5 0.3L-0.2 0Z";
    const ways = {
      "class": {
        rows: target.classes.map((of, number) => [of, marks[number].colour, marks[number].path]),
        of: point => target.true[point],
        unknown: "not annotated",
      },
      "right or wrong": {
        rows: [["right", RIGHT, circle], ["wrong", WRONG, cross]],
        of: point => target.predicted[point] === UNKNOWN || target.true[point] === UNKNOWN
          ? UNKNOWN : +(target.predicted[point] !== target.true[point]),
        unknown: "not tested",
      },
      "video": { rows: null, of: point => viewer.videos[point] },
      "part": {
        rows: parts.map((part, number) => [part, number % PARTS, circle]),
        of: point => parts.indexOf(viewer.parts[point]),
      },
    };
    const canvas = element("canvas", { tabIndex: 0 });
    canvas.setAttribute("role", "img");
    const tip = element("div", { className: "tip", hidden: true });
    const live = element("div", { className: "live" }, canvas, tip);
    const description = element("p", { className: "small" });
    description.setAttribute("aria-live", "polite");
    const [methodLabel, method] = choice("Map", Object.keys(viewer.methods));
    const [wayLabel, way] = choice("Coloured by", Object.keys(ways));
    const form = element("form", {}, methodLabel, wayLabel);
    const key = box.querySelector(".key");
    for (const still of box.querySelectorAll("figure")) still.classList.add("printed");
    box.insertBefore(form, key);
    key.after(live, description);
    box.classList.add("alive");

    let places = [], chosen = UNKNOWN, side = 0;

    const draw = () => {
      side = live.clientWidth;
      const scale = window.devicePixelRatio || 1, pen = canvas.getContext("2d");
      canvas.width = canvas.height = Math.round(side * scale);
      canvas.style.height = `${side}px`;
      pen.scale(scale, scale);
      const how = ways[way.value], points = viewer.methods[method.value];
      const size = Math.max(4.5, Math.min(11, side / Math.sqrt(points.length + 1) / 2.2));
      const outlines = new Map(), colours = new Map();
      const outline = path => outlines.get(path) ?? outlines.set(path, new Path2D(path)).get(path);
      const ink = number => colours.get(number) ?? colours.set(number, colour(number)).get(number);
      places = points.map(([x, y]) => [x, y].map(at => MARGIN + at / GRID * (side - 2 * MARGIN)));
      const mark = (point, grow = 1, edge = null) => {
        const row = how.of(point);
        let fill = ink(PALE), path = circle, shrink = .6;
        if (row !== UNKNOWN && how.rows) [, fill, path, shrink] = ["", ink(how.rows[row][1]), how.rows[row][2], 1];
        else if (row !== UNKNOWN) [fill, shrink] = [`hsl(${row * 137.5 % 360} 65% 50%)`, 1];
        pen.save();
        pen.translate(...places[point]);
        pen.scale(size * shrink * grow, size * shrink * grow);
        pen.fillStyle = fill;
        pen.fill(outline(path));
        if (edge) {
          pen.lineWidth = 2 / size / grow;
          pen.strokeStyle = edge;
          pen.stroke(outline(path));
        }
        pen.restore();
      };
      const order = points.map((_, point) => point);
      const rank = point => way.value === "right or wrong" ? how.of(point) : Math.min(how.of(point), 0);
      order.sort((a, b) => rank(a) - rank(b));  // what is unknown below, what is wrong on top
      for (const point of order) mark(point);
      if (chosen !== UNKNOWN) mark(chosen, 1.7, getComputedStyle(document.body).color);
      canvas.setAttribute("aria-label", `${method.value} map of ${points.length} labelled frames for ${name}, ` +
        `coloured by ${way.value}. With the arrow keys you go from frame to frame.`);
    };

    const legend = () => {
      const how = ways[way.value], rows = [...how.rows ?? []];
      const unknown = viewer.names.some((_, point) => how.of(point) === UNKNOWN);
      if (unknown) rows.push([how.unknown, PALE, circle]);
      key.replaceChildren(...rows.map(([of, number, path]) => {
        const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
        const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
        svg.setAttribute("viewBox", "-0.75 -0.75 1.5 1.5");
        svg.setAttribute("aria-hidden", "true");
        shape.setAttribute("d", path);
        shape.setAttribute("fill", `var(--c${number})`);
        svg.append(shape);
        return element("li", {}, svg, of);
      }), ...(how.rows ? [] : [element("li", {}, "each video has a colour; many are alike")]));
    };

    const words = point => {
      const lines = [`${viewer.names[point]}, line ${viewer.lines[point]}, video ${viewer.videos[point] + 1}`, `part: ${viewer.parts[point]}`];
      const of = number => number === UNKNOWN ? "not annotated" : target.classes[number];
      lines.push(`true: ${of(target.true[point])}`);
      lines.push(target.predicted[point] === UNKNOWN ? "predicted: nothing, as this frame was not tested"
        : `predicted: ${of(target.predicted[point])} (${(target.p[point] / 100).toFixed(2)})`);
      return lines;
    };

    const show = point => {
      chosen = point;
      tip.hidden = point === UNKNOWN;
      draw();
      description.textContent = "";
      if (point === UNKNOWN) return;
      const frame = element("canvas", { width: viewer.sheet.side, height: viewer.sheet.side }), s = viewer.sheet.side;
      const column = point % viewer.sheet.columns, row = Math.floor(point / viewer.sheet.columns);
      frame.getContext("2d").drawImage(sheet, column * s, row * s, s, s, 0, 0, s, s);
      tip.replaceChildren(frame, ...words(point).map(line => element("div", {}, line)));
      description.textContent = words(point).join("; ");
      const [x, y] = places[point];
      tip.style.left = `${Math.max(0, Math.min(side - tip.offsetWidth, x < side / 2 ? x + 16 : x - tip.offsetWidth - 16))}px`;
      tip.style.top = `${Math.max(-tip.offsetHeight / 3, Math.min(side - tip.offsetHeight, y - tip.offsetHeight / 2))}px`;
    };

    const nearest = (x, y, fits = () => true) => {
      let best = UNKNOWN, least = Infinity;
      places.forEach(([a, b], point) => {
        const away = Math.hypot(a - x, b - y);
        if (away < least && fits(a - x, b - y, point)) [best, least] = [point, away];
      });
      return [best, least];
    };

    const point_at = event => {
      const at = canvas.getBoundingClientRect();
      const [best, away] = nearest(event.clientX - at.left, event.clientY - at.top);
      const next = away <= NEAR ? best : UNKNOWN;
      if (next !== chosen) show(next);
    };
    canvas.addEventListener("pointermove", point_at);
    canvas.addEventListener("pointerdown", point_at);
    canvas.addEventListener("pointerleave", event => event.pointerType === "mouse" && show(UNKNOWN));
    canvas.addEventListener("blur", () => show(UNKNOWN));
    canvas.addEventListener("keydown", event => {
      const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
      if (event.key === "Escape") show(UNKNOWN);
      if (!dx && !dy) return;
      event.preventDefault();
      const [x, y] = chosen === UNKNOWN ? [side / 2, side / 2] : places[chosen];
      // the nearest frame within 45 degrees of where the key points
      const ahead = (a, b, point) => point !== chosen && a * dx + b * dy > Math.abs(a * dy + b * dx);
      const [best] = chosen === UNKNOWN ? nearest(x, y) : nearest(x, y, ahead);
      if (best !== UNKNOWN) show(best);
    });
    for (const select of [method, way]) select.addEventListener("change", () => { legend(); show(UNKNOWN); });
    new ResizeObserver(() => { if (live.clientWidth !== side) show(UNKNOWN); }).observe(live);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    legend();
    draw();
  }
})();
