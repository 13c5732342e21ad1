// What the page does in the browser: it sends files, takes keys, and fades layers into each other.
window.segdiff = (() => {
  const AT_ONCE = 10; // files after which the page takes what has come

  // Sends files one after the other; tells that some came.
  async function send(files, zone, trigger) {
    const note = zone.querySelector(".sd-sent"), most = Number(zone.dataset.most), lines = [];
    let came = 0, sent = 0;
    const say = (text) => { note.textContent = [...lines.slice(-5), text].filter(Boolean).join("\n"); };
    const tell = () => { if (came) trigger("upload", {}); sent += came; came = 0; };
    for (const [index, file] of files.entries()) {
      say(`sending ${index + 1} of ${files.length}: ${file.name}`);
      if (file.size > most) {
        lines.push(`${file.name}: ${(file.size / 1e6).toFixed(0)} MB are more than ` +
          `${(most / 1e6).toFixed(0)} MB, the most (--max_megabytes)`);
        continue;
      }
      try {
        const name = encodeURIComponent(file.name.slice(-300));
        const answer = await fetch(`send/${zone.dataset.token}?name=${name}`, { method: "POST", body: file });
        if (answer.ok) came += 1;
        else lines.push(`${file.name}: ${(await answer.text()).slice(0, 300)}`);
      } catch (error) {
        lines.push(`${file.name}: it could not be sent (${error.message})`);
      }
      if (came >= AT_ONCE || index === 0) tell();
    }
    tell();
    say(sent ? `${sent} sent` : "");
  }

  // Makes the place where files are dropped; what it holds may be replaced.
  function drop(element, trigger) {
    const zone = () => element.querySelector(".sd-drop");
    const take = (files) => { if (files.length && zone()) send([...files], zone(), trigger); };
    element.addEventListener("click", (event) => {
      if (event.target.tagName !== "INPUT") element.querySelector("input")?.click();
    });
    element.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") element.querySelector("input")?.click();
    });
    element.addEventListener("change", (event) => {
      take([...event.target.files]);
      event.target.value = "";
    });
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      zone()?.classList.add("sd-over");
    });
    document.addEventListener("dragleave", () => zone()?.classList.remove("sd-over"));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      zone()?.classList.remove("sd-over");
      take([...event.dataTransfer.files]);
    });
    document.addEventListener("paste", (event) => take([...event.clipboardData.files]));
  }

  // Makes rows and buttons of a part answer to the mouse and to Enter.
  function pick(element, trigger) {
    const choose = (event) => {
      const remove = event.target.closest("[data-remove]");
      const alternative = event.target.closest("[data-alternative]");
      const row = event.target.closest("[data-key]");
      if (remove) trigger("delete", { key: Number(remove.dataset.remove) });
      else if (alternative) trigger("select", { key: Number(alternative.dataset.alternative) });
      else if (row) {
        trigger("select", { key: Number(row.dataset.key) });
        document.getElementById("sd-viewer").scrollIntoView({ block: "nearest" });
      }
    };
    element.addEventListener("click", choose);
    element.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.target.tagName === "TR") choose(event);
    });
  }

  // Fades: 0 is the picture, 1 the probability, 2 the uncertainty.
  function fade(value) {
    const style = document.documentElement.style, within = (x) => Math.min(Math.max(x, 0), 1);
    style.setProperty("--sd-probability", within(value));
    style.setProperty("--sd-uncertainty", within(value - 1));
  }

  // Shows outlines or hides them, and makes the picture brighter.
  function layers(names) {
    const style = document.documentElement.style;
    style.setProperty("--sd-outlines", names.includes("outlines") ? 1 : 0);
    style.setProperty("--sd-bright", names.includes("brighter") ? 3 : 1);
  }

  // Says what is being done while something is.
  setInterval(async () => {
    const token = document.querySelector(".sd-drop")?.dataset.token;
    if (!token || document.hidden || !document.querySelector(".sd-spin")) return;
    const text = await fetch(`doing/${token}`).then((answer) => answer.text(), () => "");
    const place = document.querySelector(".sd-spin ~ .sd-doing");
    if (place && text) place.textContent = text;
  }, 500);

  const KEYS = { a: "sd-alternatives", n: "sd-next", p: "sd-previous", w: "sd-whole" };
  document.addEventListener("keydown", (event) => {
    const typing = ["INPUT", "TEXTAREA"].includes(event.target.tagName) && event.target.type !== "range"
      && event.target.type !== "radio" && event.target.type !== "checkbox";
    const id = KEYS[event.key];
    if (!id || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const place = document.getElementById(id);
    (place?.querySelector("button") ?? place)?.click();
  });

  return { drop, pick, fade, layers };
})();
