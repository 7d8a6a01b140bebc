/* The terminal of a rental: xterm.js on the page, a websocket to the streams process. What goes over
   it is described in provisioner/streams/frames.py. Without this file the page shows the command for
   SSH instead. */
"use strict";

/* xterm.js makes style elements and sets style attributes as text, which the content policy refuses.
   Elements get the page's nonce; attributes are set by the object model, which no policy is about. */
((nonce) => {
  const create = document.createElement;
  document.createElement = function (...words) {
    const made = create.apply(this, words);
    if (made instanceof HTMLStyleElement) made.nonce = nonce;
    return made;
  };
  const set = Element.prototype.setAttribute;
  Element.prototype.setAttribute = function (name, value) {
    if (name === "style" && this.style) this.style.cssText = value;
    else set.call(this, name, value);
  };
})(document.currentScript.nonce);

(() => {
  const panel = document.querySelector("[data-terminal]");
  if (!panel || !("WebSocket" in window) || !window.Terminal) return;

  const PROTOCOL = "gpuyard.terminal.1";
  const RENEW_MS = 40_000; /* a grant is for 60 s and must not be older than 90 */
  const AGAIN_MS = 8_000; /* after no answer: three tries before that */
  const PIECE = 16 * 1024; /* bytes of a frame; the server takes 64 KiB */
  const TELL = 64 * 1024; /* drawn bytes are told in portions of this; the server sends 512 KiB ahead */
  /* What a program may have left behind when it was cut off: other screen, mouse, paste marks. */
  const CALM = "\x1b[?1047l\x1b[!p\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\r\n";

  const said = panel.dataset;
  const part = (name) => panel.querySelector(`[data-terminal-${name}]`);
  const form = part("grant");
  const state = part("state");
  const over = part("over");
  const token = (name) => getComputedStyle(panel).getPropertyValue(`--${name}`).trim();

  function theme() {
    const colours = {
      background: token("term-paper"), foreground: token("ink"), cursor: token("accent"),
      cursorAccent: token("term-paper"), selectionBackground: token("term-selection"),
      scrollbarSliderBackground: token("line"), scrollbarSliderHoverBackground: token("line-strong"),
      scrollbarSliderActiveBackground: token("line-strong"),
    };
    for (const name of ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"]) {
      colours[name] = token(`term-${name}`);
      colours[`bright${name[0].toUpperCase()}${name.slice(1)}`] =
        token(`term-bright-${name}`) || token(`term-${name}`);
    }
    return colours;
  }

  Terminal.strings.promptLabel = said.label;
  const terminal = new Terminal({
    cursorBlink: !matchMedia("(prefers-reduced-motion: reduce)").matches,
    fontFamily: token("font-mono"),
    fontSize: matchMedia("(max-width: 30rem)").matches ? 12 : 14,
    lineHeight: 1.2,
    minimumContrastRatio: 4.5,
    scrollback: 5000,
    theme: theme(),
  });
  const fit = new FitAddon.FitAddon();
  const screen = part("screen");
  terminal.loadAddon(fit);
  terminal.open(screen);
  fit.fit();
  new ResizeObserver(() => fit.fit()).observe(screen);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    terminal.options.theme = theme();
  });

  let socket = null;
  let renewing = 0;

  const isOpen = () => socket !== null && socket.readyState === WebSocket.OPEN;
  const tell = (what) => { if (isOpen()) socket.send(JSON.stringify(what)); };

  function type(bytes) {
    if (!isOpen()) return;
    for (let at = 0; at < bytes.length; at += PIECE) socket.send(bytes.subarray(at, at + PIECE));
  }

  /* --- who may be here ------------------------------------------------------------------------- */

  class Refused extends Error {}

  /* A grant with its address. Refused: asking again does not help. */
  async function ask() {
    const answer = await fetch(form.action, {
      method: "POST", body: new FormData(form), redirect: "manual", cache: "no-store",
    });
    if (answer.ok) return answer.json();
    if (answer.status === 409) throw new Refused(said.saidShut);
    if (answer.status >= 500 || answer.status === 429) throw new Error(said.saidAway);
    throw new Refused(said.saidDenied); /* signed out, put out, or another's */
  }

  async function renew() {
    const asking = socket;
    try {
      const { grant } = await ask();
      if (asking !== socket) return;
      tell({ grant });
      renewing = setTimeout(renew, RENEW_MS);
    } catch (error) {
      if (asking !== socket) return;
      if (error instanceof Refused) end(error.message);
      else renewing = setTimeout(renew, AGAIN_MS);
    }
  }

  /* --- the connection -------------------------------------------------------------------------- */

  function say(text) {
    if (state.textContent !== text) state.textContent = text;
  }

  function end(why) {
    clearTimeout(renewing);
    const ended = socket;
    socket = null;
    if (ended !== null) ended.close();
    say(said.saidClosed);
    part("why").textContent = why;
    over.hidden = false;
    panel.classList.remove("terminal-panel--open");
    terminal.options.cursorBlink = false;
  }

  async function connect() {
    over.hidden = true;
    say(said.saidConnecting);
    try {
      const { address } = await ask();
      const size = `&columns=${terminal.cols}&rows=${terminal.rows}`;
      const url = new URL(`${address}${size}`, location.href);
      url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
      attach(new WebSocket(url, PROTOCOL));
    } catch (error) {
      end(error instanceof TypeError ? said.saidAway : error.message);
    }
  }

  function attach(made) {
    let why = "";
    let drawn = 0;
    let entered = false;
    socket = made;
    made.binaryType = "arraybuffer";
    made.onopen = () => { renewing = setTimeout(renew, RENEW_MS); };
    made.onmessage = ({ data }) => {
      if (typeof data === "string") {
        why = JSON.parse(data).closed || "";
        if (why) made.close();
        return;
      }
      if (!entered) {
        entered = true;
        say(said.saidOpen);
        panel.classList.add("terminal-panel--open");
        tell({ resize: [terminal.cols, terminal.rows] });
        terminal.focus();
      }
      terminal.write(new Uint8Array(data), () => {
        drawn += data.byteLength;
        if (drawn >= TELL && made === socket) {
          tell({ seen: drawn });
          drawn = 0;
        }
      });
    };
    made.onclose = () => {
      if (made === socket) end(why || (entered ? said.saidLost : said.saidAway));
    };
  }

  /* --- people ---------------------------------------------------------------------------------- */

  const letters = new TextEncoder();
  terminal.onData((text) => type(letters.encode(text)));
  terminal.onBinary((text) => type(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
  terminal.onResize(({ cols, rows }) => tell({ resize: [cols, rows] }));

  async function copy() {
    if (!terminal.hasSelection()) terminal.selectAll();
    try {
      await navigator.clipboard.writeText(terminal.getSelection());
      return true;
    } catch {
      return false; /* no permission: it is selected, ready for the browser's own menu */
    }
  }

  /* With a selection Ctrl-C copies, without it interrupts; Ctrl-Shift-V and Cmd-V are the browser's
     own. Tab belongs to the shell, so Ctrl-F6 leaves the terminal. */
  terminal.attachCustomKeyEventHandler((event) => {
    if (event.type !== "keydown" || !event.ctrlKey || event.altKey) return true;
    const copies = event.code === "KeyC" && (event.shiftKey || terminal.hasSelection());
    if (copies) {
      event.preventDefault();
      if (terminal.hasSelection()) copy().then(() => terminal.clearSelection());
      return false;
    }
    if (event.key === "F6") {
      event.preventDefault();
      part("copy").focus();
      return false;
    }
    return !(event.code === "KeyV" && event.shiftKey);
  });

  part("again").addEventListener("click", () => {
    terminal.write(CALM);
    terminal.options.cursorBlink = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    connect();
  });
  part("copy").addEventListener("click", async ({ currentTarget: button }) => {
    const before = button.textContent;
    button.textContent = (await copy()) ? said.saidCopied : said.saidSelected;
    setTimeout(() => { button.textContent = before; }, 1600);
  });
  if (navigator.clipboard && navigator.clipboard.readText) {
    part("paste").hidden = false;
    part("paste").addEventListener("click", async () => {
      try {
        terminal.paste(await navigator.clipboard.readText());
      } catch {
        say(said.saidNoPaste);
      }
      terminal.focus();
    });
  }
  for (const key of panel.querySelectorAll("[data-key]")) {
    key.addEventListener("click", () => {
      type(letters.encode(JSON.parse(`"${key.dataset.key}"`)));
      terminal.focus();
    });
  }

  connect();
})();
