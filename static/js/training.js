// The training round's keys are those of the real screen; everything else is plain forms and links.
(() => {
  const main = document.querySelector("main.compare");
  const pair = main.querySelector(".pair");
  if (!pair) return;
  Reading.prepare(pair, main.dataset);
  Reading.settle(pair);
  Keys.listen(main, {
    answer: (side) => pair.querySelector(`.answer[value="${side}"]`)?.click(),
    prompt: () => Reading.unfold(pair),
  });
  main.addEventListener("click", (event) => {
    if (event.target.closest("[data-unfold]")) Reading.unfold(pair);
  });
})();
