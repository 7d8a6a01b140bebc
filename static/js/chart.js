/* Draws the charts of a page from the figures in it (templates/components/chart.html). Colours are the
   tokens of tokens.css, times are the reader's; the arrow keys read values like the pointer does. */
"use strict";

(() => {
  const lang = document.documentElement.lang || undefined;
  const COLOURS = 4;
  const HEIGHT = 180;
  const MOST_EXACT = 100; /* dollars; prices per hour are below it, sums above it are read in cents */

  function token(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function spell(value, unit) {
    if (value === null || value === undefined) return "–";
    if (unit.startsWith("$")) {
      const text = Math.abs(value).toLocaleString(lang, { minimumFractionDigits: 2, maximumFractionDigits: Math.abs(value) < MOST_EXACT ? 4 : 2 });
      return `${value < 0 ? "−" : ""}$${text}`;
    }
    return `${value.toLocaleString(lang, { maximumFractionDigits: 1 })} ${unit}`.trim();
  }

  /* Beside a scale there is little room: as few places as tell the marks apart. */
  function mark(value, step, unit) {
    let places = step >= 1 ? 0 : Math.ceil(-Math.log10(step));
    if (places && !Number.isInteger(Number((step * 10 ** places).toPrecision(6)))) places += 1; /* 0.25 */
    if (unit.startsWith("$") && places) places = Math.max(2, places);
    const fixed = { minimumFractionDigits: unit.startsWith("$") ? places : 0, maximumFractionDigits: places };
    const sign = value < 0 ? "−" : "";
    const text = Math.abs(value).toLocaleString(lang, fixed);
    return unit.startsWith("$") ? `${sign}$${text}` : `${sign}${text} ${unit}`.trim();
  }

  function place(at, data) {
    if (data.across) return `${data.across} ${at.toLocaleString(lang, { maximumFractionDigits: 2 })}`;
    const shape = data.daily
      ? { day: "numeric", month: "short", timeZone: "UTC" }
      : { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
    return new Date(at * 1000).toLocaleString(lang, shape);
  }

  function options(data, box, said) {
    const ink = token("--ink-3");
    const line = token("--line");
    const font = `12px ${token("--font-sans")}`;
    const axis = { stroke: ink, font, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 } };
    const paths = { steps: uPlot.paths.stepped({ align: 1 }), bars: uPlot.paths.bars({ size: [0.8, 40] }) };
    const series = data.lines.map((each) => {
      const colour = token(`--series-${((each.style - 1) % COLOURS) + 1}`);
      return {
        label: each.label,
        stroke: colour,
        width: 2,
        paths: paths[data.kind],
        dash: each.dashed || each.style > COLOURS ? [6, 4] : undefined,
        fill: data.kind === "bars" ? colour : undefined,
        points: { show: data.at.length < 2 },
        spanGaps: false,
      };
    });
    return {
      width: box.clientWidth,
      height: HEIGHT,
      tzDate: (at) => data.daily ? uPlot.tzDate(new Date(at * 1000), "UTC") : new Date(at * 1000),
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false } },
      scales: {
        x: { time: !data.across },
        y: { range: (_plot, low, high) => [Math.min(0, low ?? 0), data.most ?? (high > 0 ? high * 1.08 : 1)] },
      },
      axes: [
        { ...axis, values: data.across ? undefined : (plot, splits) => ticks(splits, data) },
        { ...axis, size: 64, values: (_plot, splits) => splits.map((each) => mark(each, Math.abs((splits[1] ?? 1) - splits[0]) || 1, data.unit)) },
      ],
      series: [{}, ...series],
      hooks: {
        setCursor: [(plot) => {
          const n = plot.cursor.idx;
          if (n === null || n === undefined) { said.textContent = ""; return; }
          const values = data.lines.map((each) => (
            data.lines.length > 1 ? `${each.label} ${spell(each.values[n], data.unit)}` : spell(each.values[n], data.unit)
          ));
          said.textContent = `${place(data.at[n], data)} · ${values.join(" · ")}`;
        }],
      },
    };
  }

  /* Times, and the day's name where it changes; days alone where the scale is longer than two. */
  function ticks(splits, data) {
    const zone = data.daily ? { timeZone: "UTC" } : {};
    const isLong = data.daily || data.at[data.at.length - 1] - data.at[0] > 2 * 86400;
    let day = "";
    return splits.map((at, n) => {
      const moment = new Date(at * 1000);
      const named = moment.toLocaleDateString(lang, { day: "numeric", month: "short", ...zone });
      const isNew = named !== day && n > 0;
      const isRepeated = named === day;
      day = named;
      if (isLong) return isRepeated ? "" : named;
      if (isNew) return named;
      return moment.toLocaleTimeString(lang, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    });
  }

  function draw(figure) {
    const box = figure.querySelector(".chart__plot");
    const source = figure.querySelector("script[type='application/json']");
    if (!box || !source || figure.plot) return;
    const data = JSON.parse(source.textContent);
    const said = figure.querySelector(".chart__at");
    /* A bar of nothing is no bar, not a stroke on the ground. */
    const drawn = data.lines.map((each) => (
      data.kind === "bars" ? each.values.map((value) => value || null) : each.values
    ));
    const plot = new uPlot(options(data, box, said), [data.at, ...drawn], box);
    figure.plot = plot;
    new ResizeObserver(() => {
      if (box.clientWidth && box.clientWidth !== plot.width) plot.setSize({ width: box.clientWidth, height: HEIGHT });
    }).observe(box);
    box.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const last = data.at.length - 1;
      const n = Math.min(last, Math.max(0, (plot.cursor.idx ?? (step > 0 ? -1 : last + 1)) + step));
      plot.setCursor({ left: plot.valToPos(data.at[n], "x"), top: 0 });
      /* What is read by keyboard is also said. */
      box.setAttribute("aria-label", said.textContent);
    });
  }

  function drawAll() {
    for (const figure of document.querySelectorAll("[data-chart]")) draw(figure);
  }

  /* Colours are read when drawing: another scheme means drawing again. */
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const figure of document.querySelectorAll("[data-chart]")) {
      if (figure.plot) { figure.plot.destroy(); figure.plot = null; }
    }
    drawAll();
  });

  document.addEventListener("htmx:afterSettle", drawAll);
  drawAll();
})();
