/* What HTML cannot do alone: times in the reader's zone, copying, native dialogs, and forms that
   cannot be sent twice by a double click. Every page works without this file. */
"use strict";

(() => {
  const root = document.documentElement;
  root.classList.add("scripted");

  const shapes = {
    full: { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" },
    day: { day: "numeric", month: "short", year: "numeric" },
    exact: {
      day: "numeric", month: "short", year: "numeric",
      hour: "2-digit", minute: "2-digit", second: "2-digit",
    },
    short: { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" },
    minute: { hour: "2-digit", minute: "2-digit" },
    clock: { hour: "2-digit", minute: "2-digit", second: "2-digit" },
  };

  /* As tables in Chinese write dates; "2026年11月29日 01:01" is too long for them. */
  if (root.lang.startsWith("zh")) {
    for (const shape of Object.values(shapes)) {
      if (shape.month) Object.assign(shape, { month: "2-digit", day: "2-digit" });
    }
  }

  /* Dialogs come in through htmx; opening them modal is what a script must do. */
  function openDialogs() {
    for (const dialog of document.querySelectorAll("dialog[data-modal]:not([open])")) {
      dialog.removeAttribute("data-modal");
      dialog.showModal();
    }
  }

  /* On a phone a row of tabs is wider than the screen: where the reader is must be in sight. */
  function showPlace() {
    for (const here of document.querySelectorAll(".tabs [aria-current]")) {
      const row = here.parentElement;
      const [one, all] = [here.getBoundingClientRect(), row.getBoundingClientRect()];
      row.scrollLeft += one.left - all.left - (all.width - one.width) / 2;
    }
  }

  function showTimes(scope) {
    for (const element of scope.querySelectorAll("time[data-shape]")) {
      const moment = new Date(element.dateTime);
      const shape = shapes[element.dataset.shape];
      if (shape && !Number.isNaN(moment.valueOf())) {
        element.textContent = moment.toLocaleString(root.lang || undefined, {
          ...shape, hourCycle: "h23",
        });
      }
    }
  }

  /* The server's clock counts, not the reader's: the difference is measured once per page. */
  const served = Date.parse(root.dataset.now || "");
  const skew = Number.isNaN(served) ? 0 : served - Date.now();

  function spell(seconds) {
    const s = Math.max(0, Math.floor(seconds));
    const hours = Math.floor(s / 3600);
    const minutes = Math.floor((s % 3600) / 60);
    const pair = (n) => String(n).padStart(2, "0");
    return hours ? `${hours}:${pair(minutes)}:${pair(s % 60)}` : `${minutes}:${pair(s % 60)}`;
  }

  function tick() {
    const now = Date.now() + skew;
    for (const element of document.querySelectorAll("[data-since]")) {
      element.textContent = spell((now - Date.parse(element.dataset.since)) / 1000);
    }
    for (const element of document.querySelectorAll("[data-until]")) {
      const left = (Date.parse(element.dataset.until) - now) / 1000;
      element.textContent = spell(left);
      if (left <= 0 && !element.dataset.over) {
        element.dataset.over = "yes";
        document.body.dispatchEvent(new CustomEvent(element.dataset.event || "over"));
      }
    }
  }

  document.addEventListener("click", async (event) => {
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      const source = document.getElementById(copy.dataset.copy);
      const before = copy.textContent;
      try {
        await navigator.clipboard.writeText(source.textContent.trim());
        copy.textContent = copy.dataset.done;
      } catch {
        getSelection().selectAllChildren(source); /* no permission: selected, ready for Ctrl-C */
        copy.textContent = copy.dataset.selected;
      }
      setTimeout(() => { copy.textContent = before; }, 1600);
      return;
    }
    const opener = event.target.closest("[data-dialog]");
    const dialog = opener && document.getElementById(opener.dataset.dialog);
    if (dialog) {
      event.preventDefault();
      dialog.showModal();
      return;
    }
    const closer = event.target.closest("[data-close]");
    if (closer) {
      const owner = closer.closest("dialog");
      if (owner) { event.preventDefault(); owner.close(); }
      return;
    }
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });

  document.addEventListener("change", (event) => {
    const all = event.target.closest("[data-check-all]");
    if (!all) return;
    for (const box of all.form.querySelectorAll(`input[name="${all.dataset.checkAll}"]`)) box.checked = all.checked;
  });

  /* Word of change: an event stream that carries versions only. While it is open the page looks when
     told to; its own clock is for what has no version, such as the meter's estimate. */
  const OWN_LOOK_MS = 10000;
  const AGAIN_MS = 5000;
  let told = false; /* whether the stream is open */
  let looked = Date.now();

  function listen() {
    const place = document.querySelector("[data-live]");
    if (!place || !("EventSource" in window)) return;
    let source = null;
    let known = ""; /* the newest version told of */
    let sent = ""; /* what that was when the page last asked */
    /* Of what is shown is told by what is shown: a word of change that comes while an answer is on
       its way, or before the page listens, is made up for. */
    function catchUp() {
      const shown = document.querySelector("[data-version]");
      if (known && shown && known !== shown.dataset.version) {
        document.body.dispatchEvent(new CustomEvent("moved"));
      }
    }
    function isOver() {
      const poll = document.getElementById("poll");
      return !place.isConnected || (poll && !poll.hasAttribute("hx-get"));
    }
    function open() {
      if (source || document.hidden || isOver()) return;
      source = new EventSource(place.dataset.live);
      source.onopen = () => { told = true; };
      source.addEventListener("version", (message) => {
        known = JSON.parse(message.data);
        catchUp();
      });
      source.onerror = () => {
        told = false;
        if (source && source.readyState === EventSource.CLOSED) { close(); setTimeout(open, AGAIN_MS); }
      };
    }
    function close() {
      told = false;
      if (source) source.close();
      source = null;
    }
    /* A hidden tab holds no connection: a browser has six per server, and tabs stay open for days. */
    document.addEventListener("visibilitychange", () => { if (document.hidden) close(); else open(); });
    document.addEventListener("htmx:beforeRequest", (event) => {
      if (!event.defaultPrevented && event.detail.elt.hasAttribute("data-version")) sent = known;
    });
    document.addEventListener("htmx:afterSettle", () => {
      if (source && isOver()) close();
      else if (known !== sent) catchUp();
    });
    /* What whoever was choosing rows was spared. */
    document.addEventListener("change", catchUp);
    open();
  }

  document.addEventListener("htmx:beforeRequest", (event) => {
    const asker = event.detail.elt;
    const byClock = !event.detail.requestConfig.triggeringEvent;
    if (asker.id === "poll" && byClock && told && Date.now() - looked < OWN_LOOK_MS) event.preventDefault();
    /* Whoever is choosing rows is not disturbed. */
    else if (asker.id === "rental-list" && asker.querySelector("input[name]:checked")) event.preventDefault();
    else if (asker.id === "poll") looked = Date.now();
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.hasAttribute("hx-post") || form.hasAttribute("hx-get") || form.method === "get") return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "yes";
    const button = event.submitter || form.querySelector("button:not([type]), [type=submit]");
    if (button) button.setAttribute("aria-busy", "true");
  });

  /* Back button: the browser shows the page as it was left, also its spent forms. */
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
    for (const button of document.querySelectorAll("[aria-busy]")) button.removeAttribute("aria-busy");
  });

  /* With the swap and not once it has settled: in between the browser paints. */
  document.addEventListener("htmx:afterSwap", () => { showTimes(document); tick(); });
  document.addEventListener("htmx:afterSettle", openDialogs);
  document.addEventListener("htmx:afterRequest", (event) => {
    const status = event.detail.xhr ? event.detail.xhr.status : 0;
    root.classList.toggle("offline", status === 0 || status >= 500);
  });

  /* Filters take half a phone's screen: folded there until asked for. */
  if (matchMedia("(max-width: 61.99rem)").matches) {
    for (const fold of document.querySelectorAll("details[data-fold]")) fold.open = false;
  }

  showTimes(document);
  showPlace();
  listen();
  tick();
  setInterval(tick, 1000);
})();
