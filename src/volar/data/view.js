"use strict";
// The list of episodes, and one episode: films, curves and marks with one moment in common. No requests to any network;
// every text goes into the page as text.

const index = JSON.parse(document.getElementById("index").textContent);
const form = document.getElementById("filters");
const list = document.getElementById("list");
const room = document.getElementById("episode");
const title = document.title;
const PAGE = 200; // list entries shown at once

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

function drawing(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

const minus = (text) => text.replace("-", "−");
const number = (value) => minus(String(Number(value.toPrecision(4))));
const seconds = (frames) => `${(frames / index.fps).toFixed(frames / index.fps < 10 ? 2 : 1)} s`;
const counted = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
const words = (episode) => episode.tasks.map((task) => index.tasks[task]).join(" · ");

// The list

const longest = index.episodes.reduce((most, episode) => Math.max(most, episode.length), 1);
let chosen = [];
let shown = 0;

const ORDERS = {
  number: (a, b) => a.number - b.number,
  findings: (a, b) => weight(b) - weight(a),
  short: (a, b) => a.length - b.length,
  long: (a, b) => b.length - a.length,
  idle: (a, b) => b.idle - a.idle,
  task: (a, b) => words(a).localeCompare(words(b)),
};

const SEVERITIES = ["error", "warning", "note"];
const SIGNS = { error: "✗", warning: "▲", note: "•" };
const weight = (episode) => episode.flags.reduce((sum, [severity]) => sum + { error: 1e6, warning: 1e3, note: 1 }[severity], 0);

const FLAGS = {
  some: (episode) => episode.flags.length > 0,
  none: (episode) => episode.flags.length === 0,
  serious: (episode) => episode.flags.some(([severity]) => severity !== "note"),
};

function flagged(episode, wanted) {
  return wanted in FLAGS ? FLAGS[wanted](episode) : episode.flags.some(([, code]) => `code ${code}` === wanted);
}

function fits(episode, wanted) {
  const length = episode.length / index.fps;
  const text = `${episode.number} ${words(episode)}`.toLowerCase();
  return wanted.words.every((word) => text.includes(word)) &&
    (!wanted.flag || flagged(episode, wanted.flag)) &&
    (!wanted.task || episode.tasks.includes(Number(wanted.task))) &&
    (!wanted.success || String(episode.success) === wanted.success) &&
    (!wanted.least || length >= Number(wanted.least)) && (!wanted.most || length <= Number(wanted.most));
}

function choose() {
  const wanted = Object.fromEntries(new FormData(form));
  wanted.words = wanted.words.toLowerCase().split(/\s+/).filter(Boolean);
  chosen = index.episodes.filter((episode) => fits(episode, wanted)).sort(ORDERS[wanted.order]);
  document.getElementById("count").textContent =
    chosen.length === index.episodes.length ? counted(chosen.length, "episode")
      : `${chosen.length.toLocaleString("en")} of ${counted(index.episodes.length, "episode")}`;
  list.replaceChildren();
  shown = 0;
  showMore();
}

function showMore() {
  list.append(...chosen.slice(shown, shown + PAGE).map(entry));
  shown = Math.min(shown + PAGE, chosen.length);
  const more = document.getElementById("more");
  more.hidden = shown === chosen.length;
  more.textContent = `Show ${Math.min(PAGE, chosen.length - shown)} more`;
  markCurrent();
}

function outcome(success) {
  if (success === null) return null;
  return make("span", { className: success ? "success" : "failure" }, success ? "✓ success" : "✗ failure");
}

function counts(flags) {
  return SEVERITIES.map((severity) => [severity, flags.filter(([one]) => one === severity).length])
    .filter(([, count]) => count)
    .map(([severity, count]) => make("span", { className: severity }, `${SIGNS[severity]} ${counted(count, severity)}`));
}

function entry(episode) {
  const extent = make("span", { className: "extent" });
  extent.style.setProperty("--share", `${(100 * episode.length) / longest}%`);
  const idle = episode.idle >= 0.05 ? make("span", {}, `${Math.round(100 * episode.idle)} % idle`) : null;
  return make("li", {}, make("a", { href: `#${episode.number}` },
    make("b", {}, String(episode.number)), make("span", { className: "words" }, words(episode)),
    make("span", {}, seconds(episode.length)),
    make("span", { className: "more" }, outcome(episode.success), ...counts(episode.flags), idle), extent));
}

function markCurrent() {
  for (const link of list.querySelectorAll("a")) {
    if (current && link.hash === `#${current.episode.number}`) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

function showCurrent() {
  if (current) while (shown < chosen.length && shown <= chosen.indexOf(current.episode)) showMore();
  list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
}

// One episode

let opened = null; // the list's entry of the one asked for last
let current = null; // the one that is shown: {episode, data, length, time in seconds, playing, speed, its elements}

function neighbour(by) {
  const place = chosen.findIndex((episode) => episode.number === current?.episode.number);
  return chosen[place < 0 ? 0 : place + by];
}

function go(episode) {
  if (episode) location.hash = `#${episode.number}`;
}

function open(episode) {
  if (episode === opened) return;
  opened = episode;
  if (current) current.playing = false;
  const script = make("script", { src: episode.file });
  globalThis.volarEpisode = (data) => {
    if (opened?.number === data.number) show(opened, data);
  };
  script.addEventListener("load", () => script.remove());
  script.addEventListener("error", () => {
    script.remove();
    if (opened !== episode) return;
    current = opened = null;
    document.body.classList.add("open");
    room.replaceChildren(backLink(), make("p", { className: "empty" }, `${episode.file} is missing beside this page.`));
  });
  document.head.append(script);
}

const keys = () => make("p", { className: "keys" },
  "Keys: j and k next and previous episode, space plays, ← and → one frame (ten with shift), / searches.");
const backLink = () => make("a", { className: "back", href: "#list" }, "‹ All episodes");

function unpack(text, width, length) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const values = new Float32Array(bytes.buffer);
  return Array.from({ length: width }, (_, d) => values.subarray(d * length, (d + 1) * length));
}

function show(episode, data) {
  current = { episode, data, length: episode.length, time: 0, playing: false, speed: 1, readings: [], overlays: [], segments: {}, thought: null };
  document.body.classList.add("open");
  const turn = (by, text, label) => {
    const target = neighbour(by);
    return make("button", { type: "button", onclick: () => go(target), disabled: !target, ariaLabel: label }, text);
  };
  const about = Object.entries(data.source).filter(([key]) => key !== "success" || episode.success === null).map(([key, value]) =>
    make("span", {}, `${key} ${typeof value === "string" ? value : JSON.stringify(value)}`));
  room.replaceChildren(
    backLink(),
    make("div", { className: "title" }, make("h2", {}, `Episode ${episode.number}`),
      make("div", { className: "turn" }, turn(-1, "‹ Previous", "Previous episode"), turn(1, "Next ›", "Next episode"))),
    make("p", { className: "instruction" }, words(episode) || "No instruction"),
    make("p", { className: "about" }, outcome(episode.success),
      make("span", {}, `${counted(episode.length, "frame")}, ${seconds(episode.length)}`), ...about),
    stage(data), ...[thinking(data), troubles(data.findings, true), marks(data), ...index.panels.map((panel) => curves(panel, data)), keys()].filter(Boolean));
  document.title = `Episode ${episode.number} · ${title}`;
  markCurrent();
  showCurrent();
  scrollTo(0, Math.min(scrollY, room.offsetTop));
  if (!list.checkVisibility()) room.focus({ preventScroll: true }); // on small screens the list gives way
  seek(0);
}

// Thoughts: marks on the films, and words below them; both hold until the next change.

function overlay(camera) {
  const picture = drawing("svg", { viewBox: `0 0 ${camera.width} ${camera.height}`, "aria-hidden": "true" });
  current.overlays.push({ camera, picture });
  return picture;
}

const ROLES = ["next", "source", "destination"];

function drawMark(mark, camera) {
  const [width, height] = [camera.width, camera.height];
  const [x, y] = [mark.centre[0] * width, mark.centre[1] * height];
  const group = drawing("g", { class: `mark ${ROLES.includes(mark.role) ? mark.role : "named"}${mark.done ? " done" : ""}` });
  const [across, up] = [mark.size[0] * width, mark.size[1] * height];
  group.append(across || up ? drawing("rect", { x: x - across / 2, y: y - up / 2, width: across, height: up })
    : drawing("circle", { cx: x, cy: y, r: 0.025 * height }));
  const said = mark.order ? String(mark.order) : ROLES.includes(mark.role) ? "" : mark.role;
  if (said) {
    const text = drawing("text", { x: x - across / 2, y: y - up / 2 - 0.03 * height, "font-size": 0.045 * height });
    text.textContent = said;
    group.append(text);
  }
  return group;
}

function drawThought(frame) {
  const thoughts = current.data.thoughts;
  const place = thoughts.findLastIndex((one) => one.start <= frame);
  if (place < 0 || place === current.thought) return;
  current.thought = place;
  for (const { camera, picture } of current.overlays) {
    picture.replaceChildren(...thoughts[place].marks.filter((mark) => mark.camera === camera.name).map((mark) => drawMark(mark, camera)));
  }
  for (const [segment, element] of Object.entries(current.segments)) element.textContent = thoughts[place].words[segment] ?? "";
}

function thinking(data) {
  const names = [...new Set(data.thoughts.flatMap((one) => Object.keys(one.words)))];
  const rows = names.flatMap((name) => {
    current.segments[name] = make("dd");
    return [make("dt", {}, name), current.segments[name]];
  });
  return names.length ? make("section", { className: "panel thoughts" }, make("h3", {}, "Thoughts"), make("dl", {}, ...rows)) : null;
}

function stage(data) {
  current.videos = data.films.map((source) =>
    make("video", { src: source, muted: true, playsInline: true, preload: "auto" }));
  for (const video of current.videos) {
    video.addEventListener("seeked", () => catchUp(video));
    video.addEventListener("error", () => video.replaceWith(make("p", { className: "empty" }, "This film cannot be played here.")));
  }
  const films = make("div", { className: "films" }, ...current.videos.map((video, k) => {
    const camera = index.cameras[k];
    video.ariaLabel = `Film of camera ${camera.name}`;
    const ratio = camera.width / camera.height;
    const figure = make("figure", {}, make("figcaption", {}, camera.name), make("div", { className: "film" }, video, overlay(camera)));
    video.style.aspectRatio = `${camera.width} / ${camera.height}`;
    Object.assign(figure.style, { flex: `${ratio} 1 ${ratio * 6}rem`, maxWidth: `calc(${ratio} * min(34vh, 22rem))` });
    return figure;
  }));
  current.play = make("button", { type: "button", className: "play", onclick: toggle }, "Play");
  current.slider = make("input", { type: "range", min: 0, max: current.length - 1, step: 1, value: 0, ariaLabel: "Frame" });
  current.slider.addEventListener("input", () => seek(Number(current.slider.value)));
  current.output = make("output");
  const speed = make("select", { onchange: () => setSpeed(Number(speed.value)) },
    ...[0.25, 0.5, 1, 2, 4].map((times) => make("option", { value: times, selected: times === 1 }, `${times}×`)));
  return make("div", { className: "stage" }, films,
    make("div", { className: "controls" }, current.play, current.slider, current.output, make("label", {}, "Speed", speed)));
}

function troubles(findings, inEpisode) {
  if (!findings.length) return null;
  return make("ul", { className: "troubles" }, ...findings.map((one) => {
    const where = inEpisode && one.start !== null
      ? make("button", { type: "button", onclick: () => seek(one.start) }, one.place.split(", ").slice(1).join(", "))
      : make("span", {}, inEpisode ? one.place.split(", ").slice(1).join(", ") : one.place);
    return make("li", {}, make("p", {}, make("b", { className: one.severity }, `${SIGNS[one.severity]} ${one.code}`), " ", where),
      make("p", {}, one.seen), make("p", { className: "remedy" }, one.remedy));
  }));
}

function place(frame) {
  return current.length > 1 ? frame / (current.length - 1) : 0;
}

function plot(label) {
  return make("div", { className: "plot", role: "img", ariaLabel: label });
}

function band(row, start, stop, className, title) {
  const mark = make("span", { className, title });
  Object.assign(mark.style, { left: `${100 * place(start)}%`, width: `${100 * (place(stop - 1) - place(start))}%` });
  row.append(mark);
}

function strip(name, row, text) {
  return make("div", { className: "curve" }, make("span", {}, name), row, make("span", { className: "now" }, text));
}

function marks(data) {
  const rows = [];
  const placed = data.findings.filter((one) => one.start !== null);
  if (placed.length) {
    const row = plot(`Findings: ${placed.map((one) => `${one.code} at ${one.place}`).join("; ")}`);
    for (const one of placed) band(row, one.start, one.stop, `band ${one.severity}`, `${one.code}: ${one.seen}`);
    rows.push(strip("findings", row, counted(placed.length, "finding")));
  }
  if (data.idle.length) {
    const row = plot(`Idle: ${data.idle.map(([start, stop]) => `frames ${start} to ${stop - 1}`).join(", ")}`);
    for (const [start, stop] of data.idle) band(row, start, stop, "band", `idle, frames ${start} to ${stop - 1}`);
    const total = data.idle.reduce((sum, [start, stop]) => sum + stop - start, 0);
    rows.push(strip("idle", row, seconds(total)));
  }
  if (data.gripper.length) {
    const row = plot(`Gripper: ${data.gripper.map((one) => `${one.name} ${one.kind} at frame ${one.frame}`).join(", ")}`);
    const signs = { closes: "▸◂", opens: "◂▸", rises: "▲", falls: "▼" };
    for (const one of data.gripper) {
      const tick = make("span", { className: "tick", title: `${one.name} ${one.kind} at frame ${one.frame}` }, signs[one.kind]);
      tick.style.left = `${100 * place(one.frame)}%`;
      row.append(tick);
    }
    rows.push(strip("gripper", row, counted(data.gripper.length, "event")));
  }
  return rows.length ? make("section", { className: "panel events" }, make("h3", {}, "Events"), ...rows) : null;
}

function curves(panel, data) {
  const width = panel.names.length + panel.hidden;
  const lines = panel.keys.map((key) => unpack(data.values[key], width, current.length));
  const legend = panel.labels.length < 2 ? null : make("span", { className: "legend" }, ...panel.labels.map((label, k) =>
    make("span", {}, make("i", { className: `line-${(k % 3) + 1}` }), label.toLowerCase())));
  const rows = panel.names.map((name, d) => {
    const row = plot(`${panel.title}, ${name}: from ${number(panel.low[d])} to ${number(panel.high[d])}`);
    const graph = drawing("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", "aria-hidden": "true" });
    lines.forEach((line, k) => graph.append(
      drawing("path", { class: `line-${(k % 3) + 1}`, d: course(line[d], panel.low[d], panel.high[d]) })));
    row.append(graph);
    const now = make("span", { className: "now" });
    for (const [k, line] of lines.entries()) {
      const reading = make("span", { className: lines.length > 1 ? `line-${(k % 3) + 1}` : "" });
      now.append(reading);
      current.readings.push({ reading, values: line[d] });
    }
    const unit = panel.units[d] ? make("small", {}, ` ${panel.units[d]}`) : null;
    const named = panel.names.length > 1 || name !== "0" ? name : panel.title.toLowerCase();
    return make("div", { className: "curve" }, make("span", {}, named, unit), row, now);
  });
  const rest = panel.hidden ? make("p", { className: "about" }, `${panel.hidden} further dimensions are not drawn.`) : null;
  return make("section", { className: "panel" },
    make("div", { className: "panel-head" }, make("h3", {}, panel.title), legend), ...rows, rest);
}

function course(values, low, high) {
  const height = high > low ? high - low : 1;
  const point = (t, value) => `${(1000 * place(t)).toFixed(1)} ${(100 - (100 * (value - low)) / height).toFixed(1)}`;
  const step = Math.max(1, Math.floor(values.length / 1500)); // of long episodes the extremes of each piece
  const points = [];
  for (let t = 0; t < values.length; t += step) {
    const piece = values.subarray(t, t + step);
    points.push(point(t, Math.min(...piece)));
    if (step > 1) points.push(point(t, Math.max(...piece)));
  }
  return `M${points.join("L")}`;
}

// The moment that films, cursor and readings share

const frameNow = () => Math.min(Math.floor(current.time * index.fps + 1e-6), current.length - 1);

function seek(frame) {
  current.time = Math.min(Math.max(frame, 0), current.length - 1) / index.fps;
  for (const video of current.videos) catchUp(video);
  draw();
}

function catchUp(video) {
  if (!current?.videos.includes(video) || current.playing || video.seeking) return;
  const due = (frameNow() + 0.5) / index.fps; // the middle of the frame, which no rounding reaches over
  if (Math.abs(video.currentTime - due) > 0.25 / index.fps) video.currentTime = due;
}

function draw() {
  const frame = frameNow();
  room.style.setProperty("--at", place(frame));
  current.slider.value = frame;
  current.output.textContent = `frame ${frame} of ${current.length - 1} · ${(frame / index.fps).toFixed(2)} s`;
  current.slider.ariaValueText = current.output.textContent;
  drawThought(frame);
  for (const { reading, values } of current.readings) reading.textContent = number(values[frame]);
}

function setSpeed(times) {
  current.speed = times;
  for (const video of current.videos) video.playbackRate = times;
}

function toggle() {
  if (current.playing) return pause();
  if (frameNow() === current.length - 1) seek(0);
  const playing = current;
  playing.playing = true;
  playing.play.textContent = "Pause";
  for (const video of playing.videos) {
    video.currentTime = playing.time;
    video.play().catch(() => {}); // one that cannot be played is passed over; the others go on
  }
  let before = null; // a frame's clock may lie before the click that asked for it
  const tick = (now) => {
    if (current !== playing || !playing.playing) return;
    playing.time += (Math.min(now - (before ?? now), 200) / 1000) * playing.speed; // a tab in the background stands still
    before = now;
    for (const video of playing.videos) {
      const late = Math.abs(video.currentTime - playing.time);
      if (!video.seeking && late > Math.max(0.1, 2 / index.fps) * playing.speed) video.currentTime = playing.time;
    }
    if (playing.time * index.fps >= playing.length - 1) {
      pause();
      return seek(playing.length - 1);
    }
    draw();
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
}

function pause() {
  current.playing = false;
  current.play.textContent = "Play";
  for (const video of current.videos) video.pause();
  seek(frameNow());
}

room.addEventListener("pointerdown", (event) => {
  const target = event.target.closest(".plot");
  if (!target || event.button !== 0) return;
  if (current.playing) pause();
  const follow = (moved) => {
    const box = target.getBoundingClientRect();
    seek(Math.round(((moved.clientX - box.left) / box.width) * (current.length - 1)));
  };
  follow(event);
  target.setPointerCapture(event.pointerId);
  target.addEventListener("pointermove", follow);
  target.addEventListener("lostpointercapture", () => target.removeEventListener("pointermove", follow), { once: true });
});

// Keys

const KEYS = {
  j: () => go(neighbour(1)),
  k: () => go(neighbour(-1)),
  "/": () => form.elements.words.focus(),
  " ": () => toggle(),
  ArrowRight: (event) => seek(frameNow() + (event.shiftKey ? 10 : 1)),
  ArrowLeft: (event) => seek(frameNow() - (event.shiftKey ? 10 : 1)),
  Home: () => seek(0),
  End: () => seek(current.length - 1),
};

document.addEventListener("keydown", (event) => {
  const busy = event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey;
  const pressed = event.key === " " && event.target.closest("button, a, summary");
  if (busy || pressed || !(event.key in KEYS) || (!current && !"jk/".includes(event.key))) return;
  event.preventDefault();
  KEYS[event.key](event);
});

// Beginnings

function route() {
  const found = index.episodes.find((episode) => `#${episode.number}` === location.hash);
  if (found) return open(found);
  if (current?.playing) pause();
  opened = null;
  document.body.classList.remove("open");
  document.title = title;
  showCurrent();
}

index.tasks.forEach((task, k) => form.elements.task.append(make("option", { value: k }, task)));
const codes = [...new Set(index.episodes.flatMap((episode) => episode.flags.map(([, code]) => code)))].sort();
const choices = codes.length ? [["some", "any finding"], ["serious", "errors and warnings"], ["none", "no finding"]] : [];
for (const [value, text] of [...choices, ...codes.map((code) => [`code ${code}`, code])]) {
  form.elements.flag.append(make("option", { value }, text));
}
form.querySelector(".flag").hidden = !codes.length;
form.querySelector(".task").hidden = index.tasks.length < 2;
form.querySelector(".success").hidden = index.episodes.every((episode) => episode.success === null);
form.addEventListener("input", choose);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(choose));
document.getElementById("more").addEventListener("click", showMore);
addEventListener("hashchange", route);
const general = document.getElementById("general");
if (index.findings.length) {
  general.hidden = false;
  general.querySelector("summary").append(
    `${counted(index.findings.length, "finding")} about the whole data set`, ...counts(index.findings.map((one) => [one.severity])));
  general.append(troubles(index.findings, false));
}
room.append(keys());
choose();
route();
