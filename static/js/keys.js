// Which key does what. Keys rest while somebody types, while a dialog is open, and when held down.
(() => {
  const KEYS = {
    1: "left",
    ArrowLeft: "left",
    2: "right",
    ArrowRight: "right",
    3: "tie",
    0: "tie",
    ArrowDown: "tie",
    4: "bothBad",
    s: "skip",
    u: "undo",
    w: "why",
    g: "guidelines",
    p: "prompt",
    d: "differences",
    r: "raw",
    "?": "sheet",
  };

  // The arrow down scrolls wherever there is something to scroll; nobody shall answer by reading.
  const everythingInView = () => document.documentElement.scrollHeight <= window.innerHeight + 1;
  const scrollsItself = (element) => element.closest("pre, .table-scroll, .prompt-body");

  const isOurs = (event) =>
    !(event.ctrlKey || event.metaKey || event.altKey || event.isComposing) &&
    !event.target.closest("input, textarea, select, .menu") &&
    !document.querySelector("dialog[open]");

  const closePanels = (main) => {
    for (const panel of main.querySelectorAll("details[open]")) {
      panel.open = false;
      panel.querySelector("summary").focus();
    }
  };

  const listen = (main, actions) =>
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return closePanels(main);
      const skipping = main.querySelector(".pair:not([hidden]) [data-skipping][open]");
      const reason = skipping && /^[1-9]$/.test(event.key);
      const name = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (!(name || reason) || !isOurs(event)) return;
      if (event.key === "ArrowDown" && !everythingInView()) return;
      if (event.key.startsWith("Arrow") && scrollsItself(event.target)) return;
      event.preventDefault();
      if (event.repeat) return;
      if (reason) actions.reason(Number(event.key), event);
      else actions[name](event);
    });

  window.Keys = { listen };
})();
