/* The live log of a rental: server-sent events into a <pre>, always as text, never as markup.
   The page's other script opens nothing here; without this file the panel has a link instead. */
"use strict";

(() => {
  const panel = document.querySelector("[data-log]");
  if (!panel || !("EventSource" in window)) return;

  const said = panel.dataset;
  const lines = document.getElementById("log-lines");
  const state = panel.querySelector("[data-log-state]");
  const pause = panel.querySelector("[data-log-pause]");

  const MOST = 2000; /* lines on the page; more would make scrolling slow */
  const AGAIN_MS = 5000; /* after an answer that is no stream: somebody is deploying, or the machine is replaced */

  let source = null;
  let paused = false;
  let waiting = []; /* lines that came while paused or since the last frame */
  let drawing = false;
  const told = new Set(); /* notices since the last line: a stream that is tried again repeats them */

  let condition = ""; /* of the connection; what is shown while not paused */
  function say(text) {
    condition = text;
    const shown = paused ? said.saidPaused : condition;
    if (state.textContent !== shown) state.textContent = shown;
  }

  function draw() {
    drawing = false;
    if (paused || !waiting.length) return;
    const bottom = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 24;
    const piece = document.createDocumentFragment();
    for (const { text, notice } of waiting.splice(0)) {
      const line = document.createElement("span");
      if (notice) line.className = "log__notice";
      line.textContent = `${text}\n`;
      piece.append(line);
    }
    lines.append(piece);
    while (lines.childElementCount > MOST) lines.firstElementChild.remove();
    if (bottom) lines.scrollTop = lines.scrollHeight;
  }

  function add(text, notice) {
    waiting.push({ text, notice });
    if (waiting.length > MOST) waiting.shift();
    if (!drawing && !paused) {
      drawing = true;
      requestAnimationFrame(draw);
    }
  }

  function notice(text) {
    if (!told.has(text)) add(text, true);
    told.add(text);
  }

  /* The page stops looking at the rental when nothing can change any more. */
  function isOver() {
    const poll = document.getElementById("poll");
    return !poll || !poll.hasAttribute("hx-get");
  }

  function open() {
    say(said.saidConnecting);
    source = new EventSource(said.log);
    source.onopen = () => say(said.saidLive);
    source.onmessage = (event) => {
      told.clear();
      add(JSON.parse(event.data).text, false);
    };
    source.addEventListener("notice", (event) => notice(JSON.parse(event.data).text));
    source.addEventListener("end", () => {
      source.close();
      notice(said.saidEnded);
      say(said.saidEnded);
      if (!isOver()) setTimeout(open, AGAIN_MS); /* another machine may follow this one */
    });
    source.onerror = () => {
      say(said.saidAway);
      if (source.readyState === EventSource.CLOSED) setTimeout(open, AGAIN_MS);
    };
  }

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? said.saidResume : said.saidPause;
    pause.setAttribute("aria-pressed", String(paused));
    say(condition);
    draw();
  });

  open();
})();
