// A rationale that was begun survives a reload: it is kept per lease until the answer is given.
(() => {
  const key = (lease) => `touchstone-draft:${lease}`;
  const field = (pair) => pair.querySelector("[name=rationale]");
  const show = (pair) => pair.querySelector(".rationale").classList.toggle("filled", Boolean(field(pair).value.trim()));
  const storage = (work) => {
    try {
      return work(localStorage);
    } catch {
      return null; // A browser that keeps nothing still has the text in its field.
    }
  };

  const keep = (pair) => {
    const text = field(pair).value;
    const differs = text || field(pair).defaultValue; // of an answer that was taken back
    storage((store) => (differs ? store.setItem(key(pair.dataset.lease), text) : store.removeItem(key(pair.dataset.lease))));
    show(pair);
  };

  const restore = (pair) => {
    field(pair).value = storage((store) => store.getItem(key(pair.dataset.lease))) ?? field(pair).value;
    show(pair);
  };

  const forget = (lease) => storage((store) => store.removeItem(key(lease)));

  window.Drafts = { keep, restore, forget };
})();
