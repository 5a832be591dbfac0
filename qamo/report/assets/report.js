"use strict";
// Draws the charts that charts.py describes, and gives them what a canvas lacks: keys, buttons, spoken values.
(() => {
  const specs = JSON.parse(document.getElementById("charts").textContent);
  const clips = JSON.parse(document.getElementById("clips").textContent);
  const colorOf = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

  // The normal quantile of the rates that probit axes are labelled with.
  const TICKS = [[0.001, -4.2649], [0.002, -4.1075], [0.005, -3.8906], [0.01, -3.719], [0.02, -3.5401], [0.05, -3.2905],
    [0.1, -3.0902], [0.2, -2.8782], [0.5, -2.5758], [1, -2.3263], [2, -2.0537], [5, -1.6449], [10, -1.2816],
    [20, -0.8416], [40, -0.2533], [60, 0.2533], [80, 0.8416], [90, 1.2816], [95, 1.6449], [98, 2.0537], [99, 2.3263],
    [99.9, 3.0902]];

  function axis(side, scale) {
    const base = {
      stroke: colorOf("soft"), label: side.label, labelSize: 24, labelFont: "600 12px system-ui, sans-serif",
      font: "12px system-ui, sans-serif", grid: { stroke: colorOf("faint"), width: 1 },
      ticks: { stroke: colorOf("line"), size: 4, width: 1 }, 
      size: scale === "x" ? 42 : (u, values) => 34 + 6.5 * Math.max(2, ...(values || []).map((v) => (v || "").length)),
    };
    if (side.scale === "probit") {
      base.splits = (u, i, low, high) => {
        const inside = TICKS.filter((t) => t[1] >= low - 1e-3 && t[1] <= high + 1e-3).map((t) => t[1]);
        if (inside.length > 1) return inside;
        return [0, 1, 2, 3, 4].map((k) => low + (high - low) * (k + 0.5) / 5);
      };
      base.values = (u, splits) => splits.map((v) => {
        if (v == null) return "";
        const t = TICKS.find((t) => Math.abs(t[1] - v) < 1e-4);
        return t ? String(t[0]) : (100 * normal(v)).toPrecision(3);
      });
      base.filter = (u, splits) => { // labels that would touch the one before are left out
        let last = null;
        return splits.map((v) => {
          const at = u.valToPos(v, scale);
          if (last != null && Math.abs(at - last) < (scale === "x" ? 30 : 16)) return null;
          last = at;
          return v;
        });
      };
    } else if (side.scale === "epoch") {
      base.incrs = [1, 2, 5, 10, 20, 50, 100];
    } else {
      base.values = (u, splits, i, space, step) => {
        const digits = Math.min(8, (String(step).split(".")[1] || "").length);
        return splits.map((v) => v == null ? "" : v.toFixed(digits));
      };
    }
    return base;
  }

  function normal(z) { // the normal distribution function, to 1e-7 (Abramowitz and Stegun 26.2.17)
    const t = 1 / (1 + 0.2316419 * Math.abs(z));
    const tail = Math.exp(-z * z / 2) / Math.sqrt(2 * Math.PI) * t *
      (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
    return z > 0 ? 1 - tail : tail;
  }

  const short = (v) => v == null ? "–" : Math.abs(v) >= 1000 || (v && Math.abs(v) < 1e-3) ? v.toPrecision(4) :
    String(+v.toFixed(4));
  const valueAt = (side, i) => i == null ? "–" : side.text ? side.text[i] ?? "–" : short(side.values[i]);

  function limits(values, pad) {
    let low = Infinity, high = -Infinity;
    for (const v of values) if (v != null) { if (v < low) low = v; if (v > high) high = v; }
    if (low > high) return [0, 1];
    const room = (high - low || Math.abs(high) || 1) * pad;
    return [low - room, high + room];
  }

  function striped(color, dash) { // the dashes of a line, as the background of its mark in the legend
    let at = 0;
    const stops = dash.map((n, k) => `${k % 2 ? "transparent" : color} ${at}px ${at += n}px`);
    return `repeating-linear-gradient(90deg, ${stops})`;
  }

  function nearest(u, spec) { // the point of a scatter chart that is closest to the pointer
    let best = null, least = 900; // 30 px
    spec.x.values.forEach((x, i) => {
      for (const s of spec.series) {
        if (s.values[i] == null) continue;
        const d = (u.valToPos(x, "x") - u.cursor.left) ** 2 + (u.valToPos(s.values[i], "y") - u.cursor.top) ** 2;
        if (d < least) { least = d; best = i; }
      }
    });
    return best;
  }

  function draw(figure, spec) {
    const plot = figure.querySelector(".plot"), legend = figure.querySelector(".legend");
    plot.replaceChildren();
    legend.replaceChildren();
    const width = Math.max(240, plot.clientWidth);
    const height = spec.square ? Math.round(Math.min(width * 0.94, 620)) : width < 480 ? 290 : 340;
    const whole = {
      x: spec.x.range || limits(spec.x.values, spec.kind === "scatter" ? 0.08 : 0),
      y: spec.y.range || limits(spec.series.filter((s) => !s.hidden).flatMap((s) => s.values), spec.kind === "scatter" ? 0.12 : 0.05),
    };
    if (spec.y.min != null) whole.y[0] = spec.y.min;
    const view = { ...whole }; // the ranges on screen
    let reached = null; // the point that the keyboard is at
    let touched = false; // by a finger last, and not by the mouse
    const scatter = spec.kind === "scatter";
    const series = [{ label: spec.x.name || spec.x.label, value: (u, v, s, i) => valueAt(spec.x, i), class: scatter ? "quiet" : undefined }];
    for (const s of spec.series) {
      const color = colorOf(s.color || "soft");
      series.push({
        label: s.label, stroke: color, width: s.hidden || s.quiet ? 0 : 2, class: s.quiet ? "quiet" : s.hidden ? "hovered" : undefined, dash: s.dash || undefined,
        value: (u, v, k, i) => valueAt(s, i), spanGaps: false,
        fill: s.fill ? color + "2e" : undefined,
        paths: s.hidden || scatter ? () => null : s.stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
        points: { show: scatter || !!s.points, size: 7, width: s.hollow ? 1.75 : 1, fill: s.hollow ? colorOf("card") : color, stroke: color },
      });
    }
    const u = new uPlot({
      width, height, series, padding: [10, 12, 0, 0],
      bands: (spec.bands || []).map((pair) => ({
        series: pair.map((i) => i + 1), fill: colorOf(spec.series[pair[0]].color) + "22",
      })),
      scales: { x: { time: false, range: () => view.x }, y: { range: () => view.y } },
      axes: [axis(spec.x, "x"), axis(spec.y, "y")],
      legend: {
        live: true, mount: (self, el) => legend.appendChild(el),
        markers: {
          width: (self, i) => i && spec.series[i - 1].hollow ? 2 : 0,
          stroke: (self, i) => i ? colorOf(spec.series[i - 1].color || "soft") : "transparent",
          fill: (self, i) => {
            const s = spec.series[i - 1];
            if (!i || s.hidden || s.hollow) return "transparent";
            const color = colorOf(s.color);
            return s.dash ? striped(color, s.dash) : color;
          },
        },
      },
      cursor: {
        drag: { x: true, y: spec.x.scale === "probit" || scatter, setScale: false },
        dataIdx: scatter ? (self, k, i) => nearest(self, spec) : undefined,
        points: { size: 8 },
        bind: { mouseleave: (self, over, leave) => (event) => touched ? null : leave(event) }, // sent after a tap too
      },
      hooks: {
        setSelect: [(self) => {
          const box = self.select;
          if (box.width < 4) return;
          const x = [self.posToVal(box.left, "x"), self.posToVal(box.left + box.width, "x")];
          const tall = box.height < self.over.clientHeight - 1 && box.height > 4;
          zoomTo(x, tall ? [self.posToVal(box.top + box.height, "y"), self.posToVal(box.top, "y")] : view.y);
          self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        }],
        draw: [(self) => marks(self, spec)],
      },
    }, [spec.x.values, ...spec.series.map((s) => s.values)], plot);
    u.over.addEventListener("pointerenter", (event) => { touched = event.pointerType === "touch"; });
    for (const kind of ["touchstart", "touchmove"]) { // uPlot listens to the mouse alone
      u.over.addEventListener(kind, (event) => {
        reached = null;
        const at = event.touches[0], box = u.over.getBoundingClientRect();
        u.setCursor({ left: at.clientX - box.left, top: at.clientY - box.top });
      }, { passive: true });
    }
    u.over.addEventListener("mousemove", () => { reached = null; });
    u.over.addEventListener("dblclick", () => zoomTo(whole.x, whole.y));

    function zoomTo(x, y) {
      view.x = [Math.max(whole.x[0], x[0]), Math.min(whole.x[1], x[1])];
      view.y = [Math.max(whole.y[0], y[0]), Math.min(whole.y[1], y[1])];
      if (view.x[1] - view.x[0] < 1e-9 || view.y[1] - view.y[0] < 1e-9) { view.x = whole.x; view.y = whole.y; }
      u.setScale("x", { min: view.x[0], max: view.x[1] });
      u.redraw(false, true);
    }
    function zoomBy(factor) {
      const i = u.cursor.idx, around = (range, at) => {
        const center = at != null && at >= range[0] && at <= range[1] ? at : (range[0] + range[1]) / 2;
        return [center - (center - range[0]) * factor, center + (range[1] - center) * factor];
      };
      zoomTo(around(view.x, i == null ? null : spec.x.values[i]),
        spec.x.scale === "probit" || scatter ? around(view.y, i == null ? null : spec.series[0].values[i]) : view.y);
    }
    function moveTo(i) {
      i = Math.max(0, Math.min(spec.x.values.length - 1, i));
      const y = spec.series.find((s) => s.values[i] != null);
      u.setCursor({ left: u.valToPos(spec.x.values[i], "x"), top: y ? u.valToPos(y.values[i], "y") : 20 });
      u.setLegend({ idx: i }); // the cursor lands on a pixel, which several points may share
      reached = i;
      figure.querySelector(".said").textContent = [`${spec.x.label}: ${valueAt(spec.x, i)}`,
        ...spec.series.filter((s) => !s.quiet && (s.text ? s.text[i] : s.values[i] != null)).map((s) => `${s.label}: ${valueAt(s, i)}`)].join(", ");
    }
    return { u, keys: (event) => {
      const step = Math.max(1, Math.round(spec.x.values.length / 150)) * (event.shiftKey ? 10 : 1);
      const i = reached ?? u.cursor.idx ?? spec.x.values.findIndex((x) => x >= view.x[0]);
      const does = {
        ArrowRight: () => moveTo(i + step), ArrowLeft: () => moveTo(i - step), Home: () => moveTo(0),
        End: () => moveTo(spec.x.values.length - 1), "+": () => zoomBy(0.5), "=": () => zoomBy(0.5),
        "-": () => zoomBy(2), "0": () => zoomTo(whole.x, whole.y), Escape: () => zoomTo(whole.x, whole.y),
      }[event.key];
      if (does && !event.ctrlKey && !event.metaKey) { does(); event.preventDefault(); }
    }, does: { in: () => zoomBy(0.5), out: () => zoomBy(2), reset: () => zoomTo(whole.x, whole.y) } };
  }

  function marks(u, spec) {
    const c = u.ctx, box = u.bbox, dpr = devicePixelRatio;
    c.save();
    c.beginPath();
    c.rect(box.left, box.top, box.width, box.height);
    c.clip();
    if (spec.diagonal) {
      const low = Math.max(u.scales.x.min, u.scales.y.min), high = Math.min(u.scales.x.max, u.scales.y.max);
      if (high > low) {
        c.strokeStyle = colorOf("line");
        c.lineWidth = dpr;
        c.beginPath();
        c.moveTo(u.valToPos(low, "x", true), u.valToPos(low, "y", true));
        c.lineTo(u.valToPos(high, "x", true), u.valToPos(high, "y", true));
        c.stroke();
      }
    }
    const write = (text, x, y) => { // with a rim of the ground, so that lines below do not cut it
      c.save();
      c.setLineDash([]);
      c.lineWidth = 4 * dpr;
      c.lineJoin = "round";
      c.strokeStyle = colorOf("card");
      c.strokeText(text, x, y);
      c.restore();
      c.fillText(text, x, y);
    };
    (spec.marks || []).forEach((mark, k) => {
      const x = mark.x == null ? box.left : u.valToPos(mark.x, "x", true), color = colorOf(mark.color);
      c.fillStyle = c.strokeStyle = color;
      c.lineWidth = 1.5 * dpr;
      c.font = `600 ${12 * dpr}px system-ui, sans-serif`;
      const textWidth = c.measureText(mark.label).width, flip = x + 8 * dpr + textWidth > box.left + box.width;
      c.textAlign = flip ? "right" : "left";
      const shift = (flip ? -8 : 8) * dpr;
      if (mark.x == null) {
        const y = u.valToPos(mark.y, "y", true);
        c.setLineDash([4 * dpr, 3 * dpr]);
        c.beginPath();
        c.moveTo(box.left, y);
        c.lineTo(box.left + box.width, y);
        c.stroke();
        c.setLineDash([]);
        write(mark.label, x + shift, y - 6 * dpr);
      } else if (mark.y == null) {
        c.setLineDash([4 * dpr, 3 * dpr]);
        c.beginPath();
        c.moveTo(x, box.top);
        c.lineTo(x, box.top + box.height);
        c.stroke();
        c.setLineDash([]);
        write(mark.label, x + shift, box.top + (14 + 16 * k) * dpr);
      } else {
        const y = u.valToPos(mark.y, "y", true);
        c.beginPath();
        c.arc(x, y, 4.5 * dpr, 0, 7);
        c.fill();
        c.lineWidth = 2 * dpr;
        c.strokeStyle = colorOf("card");
        c.stroke();
        if (mark.below) { c.textAlign = "right"; write(mark.label, x - 8 * dpr, y + 16 * dpr); }
        else if (mark.label) write(mark.label, x + shift, y - 8 * dpr);
      }
    });
    c.restore();
  }

  const charts = new Map();
  const figures = [...document.querySelectorAll("figure[id]")].filter((f) => specs[f.id]);
  const drawAll = () => figures.forEach((figure) => {
    charts.get(figure)?.u.destroy();
    charts.set(figure, draw(figure, specs[figure.id]));
  });
  drawAll();
  for (const figure of figures) {
    figure.querySelector(".plot").addEventListener("keydown", (event) => charts.get(figure).keys(event));
    figure.querySelector(".tools").addEventListener("click", (event) => {
      const does = charts.get(figure).does[event.target.dataset.do];
      if (does) does();
    });
  }
  let widthDrawn = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === widthDrawn) return;
    widthDrawn = innerWidth;
    for (const [figure, { u }] of charts) {
      const width = Math.max(240, figure.querySelector(".plot").clientWidth);
      u.setSize({ width, height: specs[figure.id].square ? Math.round(Math.min(width * 0.94, 620)) : u.height });
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  const onPaper = (on) => { // paper is light and narrower
    if (on) document.documentElement.dataset.theme = "light"; else delete document.documentElement.dataset.theme;
    for (const fold of document.querySelectorAll(on ? "details:not([open])" : "details.opened")) {
      fold.classList.toggle("opened", on); // those that the reader had opened stay open
      fold.open = on;
    }
    drawAll();
  };
  addEventListener("beforeprint", () => onPaper(true));
  addEventListener("afterprint", () => onPaper(false));

  // Recordings: the page holds each once, however many tables name it.
  for (const player of document.querySelectorAll("audio[data-clip]")) player.src = clips[player.dataset.clip];
  for (const button of document.querySelectorAll("button.play")) { // in place of the controls on a narrow screen
    const player = button.nextElementSibling;
    button.addEventListener("click", () => player.paused ? player.play().catch(() => {}) : player.pause());
    player.addEventListener("play", () => {
      for (const other of document.querySelectorAll("audio")) if (other !== player) other.pause();
      button.textContent = "❚❚";
      button.setAttribute("aria-pressed", "true");
    });
    for (const kind of ["pause", "ended"]) player.addEventListener(kind, () => {
      button.textContent = "▶";
      button.setAttribute("aria-pressed", "false");
    });
    player.addEventListener("error", () => { button.disabled = true; button.textContent = "–"; });
  }

  // Tables that sort by a click on a heading.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows].at(-1).cells;
    [...heads].forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
      const rising = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
      const numbers = [...table.tBodies[0].rows].some((row) => row.cells[column].dataset.sort);
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        if (!numbers) return rising ? key(a).localeCompare(key(b)) : key(b).localeCompare(key(a));
        const [x, y] = [parseFloat(key(a)), parseFloat(key(b))];
        if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y); // dashes come last
        return rising ? x - y : y - x;
      });
      table.tBodies[0].append(...rows);
    }));
  }

  // Which section is being read.
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const a of links.values()) a.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  document.querySelectorAll("main > section").forEach((section) => seen.observe(section));
})();
