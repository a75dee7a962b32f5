// The overview: fills in the figures that the stream brings, and draws the last hour.
"use strict";

(() => {
  const language = document.documentElement.dataset.locale; // pages.js knows it
  const number = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
  const rate = new Intl.NumberFormat(language, { maximumSignificantDigits: 2, useGrouping: true });
  const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit" });
  const LIMIT = 1000; // no more are counted of anything
  const HOUR = 3600;
  const HEIGHT = 150; // of a plot, in pixels

  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Written only where it differs: what is said aloud is not said again.
  function write(element, text) {
    if (element && element.textContent !== text) element.textContent = text;
  }

  const bounded = (count) => number.format(count) + (count >= LIMIT ? "+" : "");
  const perSecond = (moves) => rate.format(moves ? moves.rate : 0);
  const nameOf = (status) => $(`template[data-name="${status}"]`)?.innerHTML ?? status;

  function duration(seconds) {
    if (seconds < 1) return "0 s";
    if (seconds < 120) return `${number.format(seconds)} s`;
    if (seconds < 7200) return `${number.format(seconds / 60)} min`;
    return `${number.format(seconds / 3600)} h`;
  }

  function showVerdict(verdict, troubles) {
    const section = $("#verdict");
    section.dataset.verdict = verdict;
    for (const line of $$("[data-when]", section)) line.hidden = line.dataset.when !== verdict;
    const list = $("#troubles");
    const texts = troubles.map(({ kind, subject, figure }) => {
      const item = $(`template[data-trouble="${kind}"]`).content.firstElementChild.cloneNode(true);
      const link = $("a", item);
      const figures = kind === "rows_wait" ? duration(figure) : bounded(figure);
      link.textContent = link.textContent
        .replace("{subject}", kind === "rows_wait" ? nameOf(subject) : subject)
        .replace("{figure}", figures);
      return item;
    });
    const before = $$("li", list).map((item) => item.textContent);
    const same = before.length === texts.length && texts.every((item, n) => item.textContent === before[n]);
    if (!same) list.replaceChildren(...texts);
  }

  function showFigures(state) {
    const moves = state.sample?.statuses ?? {};
    const letters = Object.values(state.dead_letters).reduce((sum, count) => sum + count, 0);
    const oldest = Math.max(0, ...Object.values(state.stages).map((stage) => stage.oldest_due));
    const alive = Object.values(state.processes).reduce((sum, count) => sum + count, 0);
    const figures = {
      accepted: state.sample ? perSecond(moves.received) : "–",
      delivered: state.sample ? perSecond(moves.delivered) : "–",
      oldest_due: duration(oldest),
      dead_letters: bounded(letters),
      processes: number.format(alive),
    };
    for (const [name, text] of Object.entries(figures)) write($(`[data-figure="${name}"]`), text);
    $('[data-figure="dead_letters"]').classList.toggle("bad", letters > 0);
    const kinds = $("[data-kinds]");
    write(kinds, kinds.dataset.kinds.replace(/{(\w+)}/g, (_, kind) => number.format(state.processes[kind] ?? 0)));
  }

  function showFlow(state) {
    const moves = state.sample?.statuses ?? {};
    for (const node of $$("[data-status]")) {
      const { orders, estimate } = state.statuses[node.dataset.status];
      const many = estimate > orders + 1 ? `≈ ${number.format(estimate)}` : `${number.format(orders)}+`;
      write($('[data-part="orders"]', node), estimate === null ? number.format(orders) : many);
      write($('[data-part="rate"]', node), perSecond(moves[node.dataset.status]));
    }
    for (const node of $$("[data-stage]")) {
      const stage = node.dataset.stage;
      const dead = state.dead_letters[stage] ?? 0;
      const load = state.stages[stage];
      write($('[data-part="rate"]', node), perSecond(moves[stage]));
      for (const part of ["waiting", "due", "in_flight", "retries"]) {
        write($(`[data-part="${part}"]`, node), bounded(load[part]));
        $(`.${part}`, node).classList.toggle("some", load[part] > 0);
      }
      write($('[data-part="dead"]', node), bounded(dead));
      $(".dead", node).classList.toggle("some", dead > 0);
      node.classList.toggle("moving", Boolean(moves[stage]?.rate || load.in_flight));
    }
  }

  let shownFailures = "";
  function showFailures(failures) {
    const key = JSON.stringify(failures);
    if (key === shownFailures) return; // else whoever has tabbed to a link would lose it
    shownFailures = key;
    $("#no-failures").hidden = failures.length > 0;
    $("#failures").hidden = failures.length === 0;
    const rows = failures.map((failure) => {
      const row = $("#failure").content.firstElementChild.cloneNode(true);
      const part = (name) => $(`[data-part="${name}"]`, row);
      const cause = document.createElement("a");
      cause.href = `/dashboard/dead-letters?group=${encodeURIComponent(failure.fingerprint)}`;
      cause.textContent = failure.error_type;
      part("error").replaceChildren(cause);
      part("stage").textContent = failure.stage ? nameOf(failure.stage) : "–";
      part("letters").textContent = number.format(failure.letters);
      if (failure.order_id) {
        const order = document.createElement("a");
        order.className = "mono";
        order.href = `/dashboard/orders/${failure.order_id}`;
        order.textContent = failure.tracking_code ?? failure.order_id;
        part("order").replaceChildren(order);
      }
      const moment = new Date(failure.died_at * 1000);
      const time = document.createElement("time");
      time.dateTime = time.title = moment.toISOString();
      time.dataset.shape = "ago";
      part("time").replaceChildren(time);
      return row;
    });
    const body = $("#failures tbody");
    body.replaceChildren(...rows);
    body.dispatchEvent(new Event("pages:changed", { bubbles: true })); // for the times
  }

  // The plots. Colours are those of the page's style, so they follow its scheme.
  const plots = [];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const COLOURS = ["--plot-1", "--plot-2", "--plot-3", "--plot-4"];
  const STAGES = ["processing", "in_transit", "out_for_delivery", "delivered"];
  let samples = [];

  const reached = (status, part) => (sample) => sample.statuses[status]?.[part] ?? null;
  const perSecondOf = (status) => (sample) => sample.statuses[status]?.rate ?? 0;

  function seriesOf(figure) {
    const { accepted, delivered, series } = figure.dataset;
    switch (figure.dataset.plot) {
      case "orders":
        return [[accepted, perSecondOf("received"), 0], [delivered, perSecondOf("delivered"), 1]];
      case "times":
        return STAGES.flatMap((stage, n) => [
          [nameOf(stage), reached(stage, "p50"), n],
          [`${nameOf(stage)} p90`, reached(stage, "p90"), n, [4, 3]], // said beside the p50
        ]);
      case "oldest":
        return [[series, (sample) => sample.oldest_due, 0]];
      default:
        return [[series, (sample) => sample.dead_letters, 0]];
    }
  }

  // Where samples are missing the line is broken: a time without values stands there.
  function columnsOf(series) {
    const times = [];
    const values = series.map(() => []);
    samples.forEach((sample, n) => {
      if (n && sample.taken_at - samples[n - 1].taken_at > 25) {
        times.push(sample.taken_at - 10);
        for (const column of values) column.push(null);
      }
      times.push(sample.taken_at);
      series.forEach(([, value], s) => values[s].push(value(sample)));
    });
    return [times, ...values];
  }

  function draw() {
    for (const { plot } of plots) plot.destroy();
    plots.length = 0;
    const text = colour("--quiet");
    const grid = colour("--line");
    for (const figure of $$("[data-plot]")) {
      const series = seriesOf(figure);
      const axis = { stroke: text, size: 30, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: "12px system-ui" };
      const options = {
        width: figure.clientWidth - 24,
        height: HEIGHT,
        legend: { markers: { width: 2 } },
        scales: { y: { range: (_plot, _least, most) => [0, most > 0 ? most * 1.1 : 1] } },
        axes: [
          { ...axis, values: (_plot, times) => times.map((time) => clock.format(time * 1000)), space: 70 },
          { ...axis, size: 48, values: (_plot, values) => values.map((value) => rate.format(value)) },
        ],
        series: [
          { label: $(".plots").dataset.time, value: (_plot, time) => (time ? clock.format(time * 1000) : "") },
          ...series.map(([label, , n, dash]) => ({
            label,
            dash,
            stroke: colour(COLOURS[n]),
            fill: series.length === 1 ? `${colour(COLOURS[n])}22` : undefined,
            width: 1.5,
            points: { show: false },
            value: (plot, value, n, at) => [value, series[n]?.[3] && plot.data[n + 1][at]]
              .filter((each) => Number.isFinite(each))
              .map((each) => rate.format(each))
              .join(" / "),
          })),
        ],
      };
      const plot = new uPlot(options, columnsOf(series), figure);
      plots.push({ plot, series, figure });
    }
  }

  function addSample(sample) {
    const last = samples.at(-1);
    if (!sample || (last && sample.taken_at <= last.taken_at)) return;
    samples.push(sample);
    samples = samples.filter(({ taken_at }) => taken_at > sample.taken_at - HOUR);
    for (const { plot, series } of plots) plot.setData(columnsOf(series));
  }

  async function fetchSamples() {
    const answer = await fetch($(".plots").dataset.source, { headers: { Accept: "application/json" } });
    if (!answer.ok) return;
    samples = await answer.json();
    draw();
  }

  document.addEventListener("live", ({ detail }) => {
    showVerdict(detail.troubles.length ? "not-well" : "well", detail.troubles);
    showFigures(detail);
    showFlow(detail);
    showFailures(detail.failures);
    addSample(detail.sample);
  });
  document.addEventListener("away", () => showVerdict("away", []));

  fetchSamples();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(() => {
    for (const { plot, figure } of plots) plot.setSize({ width: figure.clientWidth - 24, height: HEIGHT });
  }).observe($(".plots"));
})();
