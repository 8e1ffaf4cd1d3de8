"use strict";
// Three conveniences: choose a cost axis, show two films at the same step, label failures by hand. No requests.

document.documentElement.classList.add("scripted");

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

// Cost axis

const charts = [...document.querySelectorAll(".scatter")];

function showAxis(chosen) {
  for (const chart of charts) chart.toggleAttribute("data-off", chart.dataset.axis !== chosen);
}

for (const input of document.querySelectorAll(".choice input")) {
  input.addEventListener("change", () => showAxis(input.value));
  if (input.checked) showAxis(input.value);
}

// Two films at the same step

function momentOf(side) {
  const { frames, frame, width, height } = Object.fromEntries(
    ["frames", "frame", "width", "height"].map((name) => [name, Number(side.dataset[name])]));
  if (!frames) return null;
  const steps = side.dataset.steps.split(" ").map(Number);
  const picture = make("img", { src: side.querySelector("img").src, alt: "" });
  const box = make("div", { className: "moment" }, picture);
  const caption = make("p");
  box.style.aspectRatio = `${frame} / ${height}`;
  picture.style.width = `${(100 * width) / frame}%`;
  const pitch = frames > 1 ? (width - frame) / (frames - 1) : 0;
  const who = side.querySelector(".who").cloneNode(true);
  who.querySelector(".seed").remove();
  return {
    element: make("div", {}, who, box, caption),
    show(step) {
      const now = steps.findLastIndex((at) => at <= step);
      picture.style.left = `${(-100 * Math.max(now, 0) * pitch) / frame}%`;
      const over = step > steps.at(-1) ? ", over by then" : "";
      caption.textContent = `seen at step ${steps[Math.max(now, 0)]}${over}`;
    },
  };
}

for (const duel of document.querySelectorAll(".duel")) {
  const moments = [...duel.querySelectorAll(".side")].map(momentOf);
  if (moments.includes(null)) continue;
  const slider = make("input", { type: "range", min: 0, max: duel.dataset.steps, step: 1, value: duel.dataset.steps });
  const output = make("output");
  const show = () => {
    output.textContent = `step ${slider.value}`;
    for (const moment of moments) moment.show(Number(slider.value));
  };
  slider.addEventListener("input", show);
  const label = make("label", {}, "Step", slider, output);
  duel.querySelector("figcaption").after(make("div", { className: "moments" }, ...moments.map((one) => one.element), label));
  show();
}

// Hand labels: those of labels.json first, then what this browser remembers; null is one that was taken back

const form = document.getElementById("hand");
if (form) {
  const { store, episodes, films, labels } = JSON.parse(document.getElementById("hands").textContent);
  let remembered = true;
  try {
    Object.assign(labels, JSON.parse(localStorage.getItem(store) ?? "{}"));
  } catch {
    remembered = false; // some browsers keep nothing for a file
  }
  const field = form.elements;
  const part = (name) => form.querySelector(name);
  let shown = [];
  let place = 0;

  const remember = () => {
    try {
      localStorage.setItem(store, JSON.stringify(labels));
    } catch {
      remembered = false;
    }
  };

  function choose() {
    shown = episodes.filter((one) =>
      (!field.arm.value || one.arm === field.arm.value) && (!field.task.value || one.task === field.task.value) &&
      (!field.open.checked || !labels[one.key]));
    place = 0;
    draw();
  }

  function draw() {
    const one = shown[place];
    field.back.disabled = place <= 0;
    field.next.disabled = place >= shown.length - 1;
    field.stage.disabled = field.cause.disabled = !one;
    part(".film").replaceChildren();
    part(".rule").textContent = "";
    if (!one) {
      part(".what").textContent = "No failed episode of this choice is left.";
    } else {
      part(".what").textContent = `${place + 1} of ${shown.length}: ${one.member}, ${one.task}, seed ${one.seed}`;
      if (one.film !== null) {
        part(".film").append(make("img", { src: films[one.film], alt: `Film of ${one.key}` }));
      } else if (one.path) {
        part(".film").append(`Its film is not in this page: ${one.path} in the run's folder.`);
      }
      const [stage, cause, evidence] = one.rule;
      part(".rule").textContent = `By the rules: ${stage}, ${cause}${evidence ? ` (${evidence})` : ""}.`;
    }
    field.stage.value = labels[one?.key]?.stage ?? "";
    field.cause.value = labels[one?.key]?.cause ?? "";
    tell();
  }

  function tell() {
    const count = Object.values(labels).filter(Boolean).length;
    const where = remembered ? "kept in this browser" : "NOT kept by this browser: save before you leave";
    part(".state").textContent = `${count} ${count === 1 ? "label" : "labels"}, ${where}.`;
  }

  function label() {
    const one = shown[place];
    if (field.stage.value && field.cause.value) {
      labels[one.key] = { stage: field.stage.value, cause: field.cause.value, by: field.by.value.trim() || "unnamed" };
    } else if (!field.stage.value && !field.cause.value) {
      labels[one.key] = null;
    }
    remember();
    tell();
  }

  function step(by) {
    place = Math.min(Math.max(place + by, 0), shown.length - 1);
    draw();
  }

  function save() {
    const kept = Object.fromEntries(Object.entries(labels).filter(([, label]) => label));
    const text = JSON.stringify(kept, null, 1) + "\n";
    const link = make("a", { download: "labels.json", href: URL.createObjectURL(new Blob([text], { type: "application/json" })) });
    link.click();
    URL.revokeObjectURL(link.href);
  }

  for (const name of ["arm", "task", "open"]) field[name].addEventListener("change", choose);
  for (const name of ["stage", "cause"]) field[name].addEventListener("change", label);
  field.back.addEventListener("click", () => step(-1));
  field.next.addEventListener("click", () => step(1));
  field.save.addEventListener("click", save);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  choose();
}
