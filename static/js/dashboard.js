// Refreshing without flicker: of what htmx fetched, only the parts that changed are put into the page.
(() => {
  const board = document.getElementById("dashboard");
  if (!board) return;
  const texts = new Map();
  const parts = (root) => root.querySelectorAll("[data-part]");
  for (const part of parts(board)) texts.set(part.id, part.outerHTML);

  // The new picture is ready before the old one goes.
  const ready = async (old, part) => {
    const shown = [...old.querySelectorAll("img")].findIndex((image) => image.offsetParent !== null);
    const image = part.querySelectorAll("img")[shown];
    if (!image) return;
    image.loading = "eager";
    await image.decode().catch(() => {});
  };

  // A table that somebody opened stays open, and the keyboard stays where it was.
  const replace = async (old, part) => {
    await ready(old, part);
    const open = [...old.querySelectorAll("details[open][id]")].map((details) => details.id);
    const stops = "a, summary, [tabindex]";
    const place = [...old.querySelectorAll(stops)].indexOf(document.activeElement);
    old.replaceWith(part);
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (place >= 0) part.querySelectorAll(stops)[place]?.focus({ preventScroll: true });
  };

  board.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden) event.preventDefault();
  });

  board.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.xhr.status !== 200) return;
    event.detail.shouldSwap = false;
    const fresh = new DOMParser().parseFromString(event.detail.xhr.responseText, "text/html");
    for (const part of parts(fresh)) {
      const old = document.getElementById(part.id);
      const text = part.outerHTML;
      if (!old || texts.get(part.id) === text) continue;
      texts.set(part.id, text);
      replace(old, document.adoptNode(part));
    }
  });

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) board.dispatchEvent(new Event("refresh"));
  });
})();
