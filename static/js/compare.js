// The screen: one pair in view, the next ones waiting in the page, an outbox between here and the server.
// A key swaps the next pair in at once and the answer travels behind it; see outbox.js for what cannot be lost.
(() => {
  const main = document.querySelector("main.compare");
  const place = main.querySelector("[data-pairs]");
  const toast = main.querySelector("[data-toast]");
  const say = main.dataset;
  const PRELOAD = 2;
  const TOO_SOON = 350; // Milliseconds after a pair appears in which a second click or a held key answers nothing.
  const POLL = [2000, 5000, 10000, 20000, 30000];
  const seen = new Map(); // Milliseconds for which a pair was in view before another took its place.
  const answered = new Set(); // Leases answered on this page: a late reply must not bring one back.
  const modes = { raw: false, differences: false };
  let shown = null; // { lease, since, seen, at } of the pair in view: when it was painted, seconds it was visible.
  let last = null; // The pair answered last, so that an answer not yet sent can be taken back here.
  let awaited = null; // The key or click that no pair followed yet: its wait is measured, too.
  let polls = 0;
  let pollTimer = 0;
  let toastTimer = 0;
  let refilling = false;
  let refilled = null; // The last look for pairs, to be waited for.
  let undoing = false;
  let returned = -Infinity; // When a pair was last taken back: a second click of the same hand takes back no other.

  const pairs = () => [...place.querySelectorAll(".pair")];
  const current = () => place.querySelector(".pair:not([hidden])");
  const cookie = (name) => document.cookie.match(`(?:^|; )${name}=([^;]*)`)?.[1] ?? "";
  const token = () => cookie("csrftoken") || main.querySelector("[name=csrfmiddlewaretoken]")?.value || "";
  const held = () => [...pairs().map((pair) => pair.dataset.lease), ...outbox.entries().map((e) => e.lease)].join(",");
  const ask = (url, options = {}) =>
    fetch(url, { redirect: "manual", headers: { "HX-Request": "true", "X-CSRFToken": token() }, ...options });
  const post = (url, fields = {}, options = {}) =>
    ask(url, { method: "POST", body: new URLSearchParams({ ...fields, held: held() }), ...options });

  const outbox = new Outbox(
    `touchstone-outbox:${say.person}`,
    (entry) => post(entry.url, entry.fields, { keepalive: JSON.stringify(entry.fields).length < 40000 }),
    heard,
  );

  // --- Saying what happened -------------------------------------------------------------------------------
  function tell(text, { quiet = false, stays = false } = {}) {
    clearTimeout(toastTimer);
    toast.classList.toggle("quiet", quiet);
    toast.textContent = text;
    toast.dataset.stays = stays ? "yes" : "";
    if (!stays) toastTimer = setTimeout(() => (toast.textContent = ""), quiet ? 3000 : 7000);
  }

  // For screen readers only: those who see, see the next pair.
  const whisper = (text) => toast.dataset.stays || tell(text, { quiet: true });

  const isPlain = (response) => response.headers.get("Content-Type")?.startsWith("text/plain");

  function heard(kind, entry, response, text) {
    if (kind === "offline") tell(say.sayOffline, { stays: true });
    if (kind === "limited") tell(isPlain(response) ? text : say.sayOffline, { stays: true });
    if (kind === "signed-out" || kind === "refused") {
      tell(kind === "refused" ? say.sayRefused : say.saySignedOut, { stays: true });
      toast.append(Object.assign(document.createElement("a"), { href: say.here, textContent: "↻" }));
    }
    if (kind === "sent" && toast.dataset.stays && !outbox.entries().length) tell(say.sayOnline);
    if (kind === "sent" && entry.project === say.project) receive(text);
    if (kind === "lost") {
      tell(isPlain(response) ? text : say.sayLost);
      Drafts.forget(entry.lease);
      refill();
    }
  }

  // --- Pairs ----------------------------------------------------------------------------------------------
  const welcome = (pair) =>
    !answered.has(pair.dataset.lease) &&
    !outbox.has(pair.dataset.lease) &&
    !place.querySelector(`[data-lease="${pair.dataset.lease}"]`);

  // Take in a fragment of the server's: new pairs to the end (an undone one to the front), progress, messages.
  function receive(html, { front = false } = {}) {
    const parsed = new DOMParser().parseFromString(html, "text/html").querySelector("[data-fragment]");
    if (!parsed) return;
    main.querySelector("[data-progress]").replaceChildren(...parsed.querySelector("[data-progress]").childNodes);
    const message = parsed.querySelector(".messages");
    if (message) tell(message.textContent.trim());
    const fresh = [...parsed.querySelectorAll(".pair")].filter(welcome);
    for (const pair of fresh) {
      pair.hidden = true;
      Reading.prepare(pair, say);
    }
    if (front && fresh.length) place.prepend(document.adoptNode(fresh.shift()));
    for (const pair of fresh) place.append(document.adoptNode(pair));
    if (!pairs().length) showNothing(parsed.querySelector(".nothing"));
    else if (!current()) showFirst(awaited);
  }

  function showFirst(event) {
    const [first, ...rest] = pairs();
    place.querySelector(".nothing")?.remove();
    for (const pair of rest) pair.hidden = true;
    if (!first) return showWaiting(event);
    awaited = null;
    polls = 0;
    clearTimeout(pollTimer);
    Reading.prepare(first, say);
    for (const panel of first.querySelectorAll("[data-criteria]")) countCriteria(panel);
    Reading.raw(first, modes.raw);
    first.hidden = false;
    window.scrollTo(0, 0);
    Reading.settle(first);
    Drafts.restore(first);
    if (modes.differences) markDifferences();
    first.querySelector("[data-start]").focus({ preventScroll: true });
    pauseClock();
    const lease = first.dataset.lease;
    shown = { lease, since: null, seen: seen.get(lease) ?? 0, at: performance.now() };
    afterPaint(() => painted(lease, event));
  }

  const afterPaint = (work) => requestAnimationFrame(() => setTimeout(work, 0));

  function painted(lease, event) {
    if (shown?.lease !== lease) return;
    if (isHere()) shown.since ??= performance.now();
    if (event) performance.measure("touchstone-swap", { start: event.timeStamp, end: performance.now() });
  }

  function pauseClock() {
    if (!shown) return 0;
    if (shown.since !== null) shown.seen += performance.now() - shown.since;
    shown.since = null;
    seen.set(shown.lease, shown.seen);
    return shown.seen;
  }

  const secondsSeen = () => (pauseClock() / 1000).toFixed(3);

  function showWaiting(event) {
    shown = null;
    awaited = event;
    const text = Object.assign(document.createElement("p"), { className: "muted", textContent: say.sayWait });
    const box = Object.assign(document.createElement("section"), { className: "nothing" });
    box.append(text);
    place.replaceChildren(box);
    if (!outbox.entries().length) refilled = refill();
  }

  function showNothing(section) {
    if (!section || outbox.entries().length) return;
    shown = null;
    if (place.querySelector("[data-nothing]")?.dataset.nothing !== section.dataset.nothing) {
      place.replaceChildren(document.adoptNode(section));
      place.querySelector("[data-start]").focus({ preventScroll: true });
    }
    pollLater();
  }

  function pollLater() {
    clearTimeout(pollTimer);
    if (place.querySelector("[data-nothing]")?.dataset.nothing === "archived") return;
    pollTimer = setTimeout(refill, POLL[Math.min(polls++, POLL.length - 1)]);
  }

  async function refill() {
    if (refilling || document.visibilityState === "hidden") return pairs().length ? undefined : pollLater();
    refilling = true;
    try {
      const response = await ask(`${say.here}?held=${encodeURIComponent(held())}`);
      if (response.ok) receive(await response.text());
      else if (response.type === "opaqueredirect") heard("signed-out");
      if (toast.dataset.stays && response.ok && !outbox.entries().length) tell("");
    } catch {
      // Still no network: the poll comes back.
    }
    refilling = false;
    if (!pairs().length) pollLater();
  }

  // --- Answering ------------------------------------------------------------------------------------------
  // When the person acted, not when a busy machine came to hand it over; a form is sent by the click before it.
  let clicked = 0;
  main.addEventListener("click", (event) => (clicked = event.timeStamp), true);
  const acted = (event) => (event.type === "submit" ? clicked : event.timeStamp);
  const open = (event) => (shown && acted(event) - shown.at >= TOO_SOON ? current() : null);

  function answer(side, event) {
    const pair = open(event);
    if (!pair?.querySelector(`.answer[value="${side}"]`)) return;
    leave(pair, pair.dataset.judge, { ...extras(pair), side, lead_time: secondsSeen() }, event);
    whisper(say.saySaved);
    const minutes = session.answered();
    if (minutes && !toast.dataset.stays) tell(say.sayBreak.replace("{minutes}", minutes));
  }

  // What the form holds beside the answer: why, criteria, problems. The token is not kept in the outbox.
  function extras(pair) {
    const fields = Object.fromEntries(new FormData(pair.querySelector("[data-answers]")));
    const filled = Object.entries(fields).filter(([, value]) => value.trim());
    return Object.fromEntries(filled.filter(([name]) => name !== "csrfmiddlewaretoken"));
  }

  function countCriteria(panel) {
    const all = panel.querySelectorAll("[data-criterion]").length;
    const count = panel.querySelectorAll("[data-criterion] :checked").length;
    panel.querySelector("[data-criteria-count]").textContent = `${count}/${all}`;
  }

  function skip(reason, event) {
    const pair = open(event);
    if (!pair) return;
    leave(pair, pair.dataset.skip, { reason, note: pair.querySelector("[name=note]").value.trim() }, event);
    whisper(say.saySkipped);
  }

  // The answer is in the outbox before the pair leaves the screen.
  function leave(pair, url, fields, event) {
    const lease = pair.dataset.lease;
    answered.add(lease);
    const sent = outbox.add({ project: say.project, lease, url, fields });
    last = { lease, pair };
    pair.remove();
    for (const panel of pair.querySelectorAll("details[open]")) panel.open = false;
    Drafts.forget(lease);
    showFirst(event);
    sent.then(() => pairs().length < PRELOAD && !outbox.entries().length && !current() && refill());
  }

  async function undo(event) {
    if (undoing || acted(event) - returned < TOO_SOON) return;
    const unsent = outbox.entries().at(-1);
    if (outbox.failures && unsent && unsent.lease === last?.lease) return takeBack();
    undoing = true;
    await outbox.flush();
    if (outbox.entries().length) tell(say.sayNoUndo);
    else await askForUndo().catch(() => tell(say.sayNoUndo));
    undoing = false;
  }

  async function askForUndo() {
    const response = await post(say.undo);
    const text = await response.text();
    if (response.ok) bringBack(text);
    else tell(text.length < 300 ? text : say.sayRefused);
  }

  // The answer never left this browser: the pair comes back without asking anybody.
  function takeBack() {
    outbox.remove(last.lease);
    answered.delete(last.lease);
    place.prepend(last.pair);
    reopen();
  }

  function bringBack(html) {
    const parsed = new DOMParser().parseFromString(html, "text/html");
    const lease = parsed.querySelector("[data-returned]")?.dataset.returned;
    answered.delete(lease);
    receive(html, { front: true });
    if (pairs()[0]?.dataset.lease !== lease) return;
    if (last?.lease === lease) pairs()[0].replaceWith(last.pair); // with the form as it was left
    reopen();
  }

  function reopen() {
    for (const pair of pairs()) pair.hidden = true;
    Drafts.keep(pairs()[0]);
    last = null;
    returned = performance.now();
    showFirst();
    tell(say.sayUndone);
  }

  // --- Reading aids ---------------------------------------------------------------------------------------
  function markDifferences() {
    const [left, right] = current()?.querySelectorAll(".response") ?? [];
    const outcome = left && Differences.mark(Reading.textOf(left), Reading.textOf(right));
    const said = { unlike: say.sayUnlike, "too-long": say.sayTooLong, "no-support": say.sayNoSupport }[outcome];
    if (said && !toast.dataset.stays) tell(said);
  }

  function toggle(name) {
    modes[name] = !modes[name];
    const pair = current();
    main.querySelector(`[data-toggle=${name}]`).setAttribute("aria-pressed", modes[name]);
    if (name === "raw" && pair) {
      Reading.raw(pair, modes.raw);
      Reading.settle(pair);
    }
    if (modes.differences) markDifferences();
    else Differences.clear();
  }

  // --- Keys: what each does; keys.js knows which they are ---------------------------------------------------
  const inPair = (selector) => main.querySelector(`.pair:not([hidden]) ${selector}`);

  function openPanel(panel, field) {
    if (!panel) return;
    panel.open = !panel.open;
    if (panel.open) panel.querySelector(field)?.focus();
  }

  Keys.listen(main, {
    answer,
    reason: (number, event) => {
      const button = inPair("[data-skipping]").querySelectorAll("button[name=reason]")[number - 1];
      if (button) skip(button.value, event);
    },
    skip: () => openPanel(inPair("[data-skipping]"), "[name=reason]"),
    criteria: () => openPanel(inPair("[data-criteria]"), "input"),
    earlier: () => location.assign(say.earlier),
    why: () => openPanel(inPair(".rationale"), "textarea"),
    guidelines: () => openPanel(main.querySelector("[data-guidelines]"), ".drawer-panel"),
    undo,
    prompt: () => Reading.unfold(current()),
    differences: () => toggle("differences"),
    raw: () => toggle("raw"),
    sheet: () => main.querySelector("#keys").showModal(),
    pause: () => session.pause(),
  });

  // --- Clicks and forms: the same forms that work without this script --------------------------------------
  main.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.matches("[data-answers], [data-skip-form], [data-undo-form]")) event.preventDefault();
    if (form.matches("[data-answers]") && event.submitter) answer(event.submitter.value, event);
    if (form.matches("[data-skip-form]") && event.submitter) skip(event.submitter.value, event);
    if (form.matches("[data-undo-form]")) undo(event);
  });

  main.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.toggle) toggle(button.dataset.toggle);
    if (button?.dataset.open === "pause") session.pause();
    else if (button?.dataset.open) main.querySelector(`#${button.dataset.open}`).showModal();
    if (button && "unfold" in button.dataset) Reading.unfold(current());
    if (button?.closest("[data-suggestions]")) suggest(button);
  });

  function suggest(button) {
    const field = button.closest(".rationale").querySelector("textarea");
    field.value = [field.value.trim(), button.textContent.trim()].filter(Boolean).join("; ");
    Drafts.keep(button.closest(".pair"));
    field.focus();
  }

  main.addEventListener("input", (event) => {
    if (event.target.closest("[data-criterion]")) countCriteria(event.target.closest("[data-criteria]"));
    if (event.target.name === "rationale") Drafts.keep(event.target.closest(".pair"));
  });

  // --- The clock, the leases, the network -----------------------------------------------------------------
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") {
      outbox.flush();
      resume();
    } else pauseClock();
  });

  const session = new Session(`touchstone-session:${say.person}`, main.querySelector("#pause"), { pauseClock, resume });
  const isHere = () => document.visibilityState === "visible" && !session.isPaused;

  const renew = () => isHere() && pairs().length && post(say.renew).catch(() => null);

  // After an absence: pairs that ran out meanwhile make room for those that the server gives now.
  async function resume() {
    if (!isHere()) return;
    if (shown) shown.since ??= performance.now();
    if (!pairs().length) return refill();
    const lease = shown?.lease;
    const response = outbox.entries().length ? null : await renew();
    const isCurrent = response?.ok && shown?.lease === lease && !outbox.entries().length;
    if (!isCurrent || (await response.json()).leases >= pairs().length) return;
    for (const pair of pairs()) pair.remove();
    showWaiting();
    await refilled;
    if (current() && shown?.lease !== lease) tell(say.sayBack);
  }

  setInterval(renew, Math.max(10, Number(say.leaseSeconds) / 3) * 1000);
  window.addEventListener("online", () => outbox.flush());

  // What another tab of this person is answering leaves this tab too.
  window.addEventListener("storage", (event) => {
    if (event.key !== outbox.name) return;
    const gone = pairs().filter((pair) => outbox.has(pair.dataset.lease));
    for (const pair of gone) pair.remove();
    if (!gone.length || current()) return;
    showFirst();
    tell(say.sayElsewhere);
  });

  // --- Begin ----------------------------------------------------------------------------------------------
  for (const pair of pairs()) if (outbox.has(pair.dataset.lease)) pair.remove();
  if (pairs().length) showFirst();
  else if (outbox.entries().length) showWaiting();
  else if (place.querySelector("[data-nothing]")) pollLater();
  if (outbox.entries().length) outbox.flush().then(() => pairs().length < PRELOAD && refill());
})();
