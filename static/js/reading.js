// What helps to read a pair: folding a long prompt, raw text, copying code, the sides' short texts that ride along.
(() => {
  const SHORT = 0.55; // Of the window's height: a text so short can ride along beside a longer one.
  const LONG = 1.2; // Of the window's height: one under the other, so long a text is folded, so that both are seen.
  const isStacked = () => window.matchMedia("(max-width: 48rem)").matches;

  const copyButton = (pre, say) => {
    const frame = document.createElement("div");
    const button = document.createElement("button");
    frame.className = "code-frame";
    button.className = "copy";
    button.type = "button";
    button.textContent = say.sayCopy;
    button.addEventListener("click", async () => {
      await navigator.clipboard?.writeText(pre.textContent);
      button.textContent = say.sayCopied;
      setTimeout(() => (button.textContent = say.sayCopy), 1500);
    });
    pre.replaceWith(frame);
    frame.append(pre, button);
  };

  // Before a pair is shown: everything that would change its layout.
  const prepare = (pair, say) => {
    if (pair.dataset.prepared) return;
    pair.dataset.prepared = "yes";
    for (const pre of pair.querySelectorAll("pre.code")) copyButton(pre, say);
    for (const button of pair.querySelectorAll("[data-unfold-side]"))
      button.addEventListener("click", () => unfoldSide(button.closest(".response")));
    tie(...[...pair.querySelectorAll(".response")].map((side) => [...side.querySelectorAll("pre, .table-scroll")]));
    prompt(pair).addEventListener("scroll", (event) => fade(event.target), { passive: true });
  };

  // Wide code and tables of the two sides scroll sideways together, the first with the first and so on.
  const tie = (left, right) => {
    left.slice(0, right.length).forEach((one, i) => {
      const other = right[i];
      one.addEventListener("scroll", () => follow(other, one), { passive: true });
      other.addEventListener("scroll", () => follow(one, other), { passive: true });
    });
  };

  const follow = (other, leader) => {
    const at = Math.min(leader.scrollLeft, other.scrollWidth - other.clientWidth);
    if (leader.matches(":hover, :focus, :focus-within") && Math.abs(other.scrollLeft - at) > 1) other.scrollLeft = at;
  };

  const unfoldSide = (side) => {
    side.dataset.unfolded = "yes";
    fold(side);
    side.querySelector("h2").focus();
  };

  const fold = (side) => {
    const isLong = isStacked() && textOf(side).scrollHeight > window.innerHeight * LONG;
    const folded = isLong && !side.dataset.unfolded;
    side.classList.toggle("folded", folded);
    side.querySelector("[data-unfold-side]").hidden = !folded;
  };

  const prompt = (pair) => pair.querySelector(".prompt-body");

  // Fades say that there is more of the prompt above or below.
  const fade = (body) => {
    body.classList.toggle("more-above", body.scrollTop > 4);
    body.classList.toggle("more-below", body.scrollTop + body.clientHeight < body.scrollHeight - 4);
  };

  // In the same frame in which the pair is shown: what needs its measures.
  const settle = (pair) => {
    const body = prompt(pair);
    const long = body.scrollHeight > body.clientHeight + 4;
    pair.querySelector("[data-unfold]").hidden = !long && !body.classList.contains("unfolded");
    const last = pair.querySelector("[data-last-turn]");
    if (long && last) body.scrollTop = last.offsetTop - body.offsetTop - 8;
    fade(body);
    const most = window.innerHeight * SHORT;
    const heights = [...pair.querySelectorAll(".response")].map((side) => [side, textOf(side).offsetHeight]);
    for (const side of pair.querySelectorAll(".response")) fold(side);
    for (const [side, height] of heights) side.classList.toggle("rides", height < most);
  };

  const textOf = (side) => side.querySelector(".text:not([hidden]), .raw:not([hidden])");

  const raw = (pair, on) => {
    for (const text of pair.querySelectorAll(".text:has(+ .raw)")) text.hidden = on;
    for (const text of pair.querySelectorAll(".raw")) text.hidden = !on;
  };

  const unfold = (pair) => {
    const button = pair?.querySelector("[data-unfold]:not([hidden])");
    if (!button) return;
    const unfolded = prompt(pair).classList.toggle("unfolded");
    button.setAttribute("aria-expanded", unfolded);
    button.textContent = unfolded ? button.dataset.fold : button.dataset.unfold;
    fade(prompt(pair));
  };

  window.Reading = { prepare, settle, raw, unfold, textOf };
})();
