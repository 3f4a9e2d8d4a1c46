// An upload with a bar: htmx sends the form, this shows how far it is, and says beforehand what is too large.
(() => {
  const find = () => document.getElementById("upload");
  const size = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

  const say = (form, text) => {
    form.querySelector("[data-said]").textContent = text;
  };

  const sending = (form, is) => {
    form.querySelector(".sending").hidden = !is;
    form.querySelector("[data-stop]").hidden = !is;
    form.querySelector("[type=submit]").disabled = is;
  };

  document.addEventListener("change", (event) => {
    const form = find();
    if (!form || event.target.type !== "file") return;
    const [file] = event.target.files;
    const large = file && file.size > Number(form.dataset.most);
    event.target.setCustomValidity(large ? form.dataset.tooLarge : "");
    say(form, large ? form.dataset.tooLarge : "");
  });

  for (const [name, over] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]]) {
    document.addEventListener(name, (event) => {
      event.target.closest?.(".drop")?.classList.toggle("over", over);
    });
  }

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-stop]")) window.htmx.trigger(find(), "htmx:abort");
  });

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target.id !== "upload") return;
    say(event.target, "");
    sending(event.target, true);
  });

  document.addEventListener("htmx:xhr:progress", (event) => {
    const form = find();
    if (!form || event.target !== form || !event.detail.lengthComputable) return;
    const { loaded, total } = event.detail;
    form.querySelector("progress").value = (100 * loaded) / total;
    form.querySelector("[data-sent]").textContent = `${size(loaded)} / ${size(total)}`;
  });

  const broken = (event) => {
    if (event.target.id !== "upload") return;
    sending(event.target, false);
    say(event.target, event.detail.xhr?.responseText?.slice(0, 300) || event.target.dataset.broken);
  };
  for (const name of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
    document.addEventListener(name, broken);
  }
  document.addEventListener("htmx:sendAbort", (event) => {
    if (event.target.id === "upload") sending(event.target, false);
  });
})();
