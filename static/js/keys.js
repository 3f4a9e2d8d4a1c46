// From a key to what it does; the server says which, as people may choose their own. Keys rest while somebody types, while a dialog is open, and when held down.
(() => {
  // The arrow down scrolls wherever there is something to scroll; nobody shall answer by reading.
  const everythingInView = () => document.documentElement.scrollHeight <= window.innerHeight + 1;
  const scrollsItself = (element) => element.closest("pre, .table-scroll, .math, .prompt-body");

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

  // In an open panel of criteria a digit answers the one in focus, and the next one waits: 1 is A, 2 neither, 3 B.
  const rate = (event) => {
    const criterion = /^[123]$/.test(event.key) && event.target.closest("[data-criterion]");
    if (!criterion) return false;
    criterion.querySelectorAll("input")[event.key - 1].click();
    const next = criterion.nextElementSibling;
    if (next) next.querySelector("input").focus();
    else criterion.closest("details").querySelector("summary").focus();
    if (!next) criterion.closest("details").open = false;
    event.preventDefault();
    return true;
  };

  const listen = (main, actions) => {
    const keys = JSON.parse(main.dataset.keys);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return closePanels(main);
      if (rate(event)) return;
      const skipping = main.querySelector(".pair:not([hidden]) [data-skipping][open]");
      const reason = skipping && /^[1-9]$/.test(event.key);
      const name = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (!(name || reason) || !isOurs(event)) return;
      if (event.key === "ArrowDown" && !everythingInView()) return;
      if (event.key.startsWith("Arrow") && scrollsItself(event.target)) return;
      event.preventDefault();
      if (event.repeat) return;
      if (reason) actions.reason(Number(event.key), event);
      else if (actions[name]) actions[name](event);
      else actions.answer(name, event);
    });
  };

  window.Keys = { listen };
})();
