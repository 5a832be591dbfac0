"use strict";
const $ = (id) => document.getElementById(id);
const VERDICTS = {
  "bona fide": ["bonafide", "Likely real speech"],
  spoof: ["spoof", "Likely synthetic or manipulated"],
  uncertain: ["uncertain", "Uncertain: no verdict"],
};
const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;
let about = null, url = null, saved = null, shown = null, turn = 0;

fetch("about").then((r) => r.json()).then((found) => {
  if (found.error) return complain(found.error);
  about = found;
  about.band &&= [about.band[0] ?? -Infinity, about.band[1] ?? Infinity];
  $("limits").textContent =
    `Any common audio format, up to ${(about.max_bytes / 1e6).toFixed(0)} MB and ${(about.max_seconds / 60).toFixed(0)} minutes.`;
  $("sentences").replaceChildren(...about.meaning.map((text) => element("p", text)));
}).catch(() => complain("The server does not answer; start it again."));

function element(tag, text, name) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}
function complain(text) {
  $("status").textContent = "";
  $("problem").textContent = text;
  $("problem").hidden = false;
}

// ---- uploading

async function judge(blob, name) {
  const mine = ++turn;
  $("problem").hidden = true;
  $("result").hidden = true;
  if (about && blob.size > about.max_bytes) return complain(`${name}: larger than ${about.max_bytes / 1e6} MB; cut the recording.`);
  $("drop").setAttribute("aria-busy", "true");
  $("status").textContent = `Listening to ${name} …`;
  let found;
  try {
    const answer = await fetch("judge", {
      method: "POST", body: blob,
      headers: { "X-Qamo": "1", "X-Name": encodeURIComponent(name), "Content-Type": "application/octet-stream" },
    });
    found = await answer.json();
  } catch {
    if (mine === turn) complain("The server did not answer; is it still running?");
    return;
  } finally {
    if (mine === turn) $("drop").removeAttribute("aria-busy");
  }
  if (mine !== turn) return; // another recording was chosen meanwhile
  if (found.error) return complain(found.error);
  show(found, blob);
}

$("file").addEventListener("change", () => {
  const file = $("file").files[0];
  if (file) judge(file, file.name);
  $("file").value = "";
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) judge(event.dataTransfer.files[0], event.dataTransfer.files[0].name);
  });
}

// ---- recording

let session = null;
async function record() {
  $("problem").hidden = true;
  if (!navigator.mediaDevices || !window.AudioWorkletNode) {
    return complain("This browser gives a page no microphone unless it is opened as http://127.0.0.1 or over https.");
  }
  try {
    // Without what telephones do to speech: the detector would judge that.
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 },
    });
    const context = new AudioContext();
    await context.audioWorklet.addModule("recorder.js");
    const tap = new AudioWorkletNode(context, "tap", { numberOfOutputs: 0 });
    session = { stream, context, pieces: [], n: 0 };
    tap.port.onmessage = ({ data }) => {
      if (!session) return;
      session.pieces.push(data);
      session.n += data.length;
      let peak = 0;
      for (const x of data) peak = Math.max(peak, Math.abs(x));
      $("level").value = Math.max(peak, $("level").value * 0.97);
      const seconds = session.n / context.sampleRate;
      $("clock").textContent = clock(seconds);
      if (about && seconds > about.max_seconds - 1) finish(true);
    };
    context.createMediaStreamSource(stream).connect(tap);
    recording(true);
    $("stop").focus();
  } catch (error) {
    complain(error.name === "NotAllowedError" ? "The browser was not allowed to use the microphone." : `No recording: ${error.message}`);
  }
}
function finish(keep) {
  if (!session) return;
  const { stream, context, pieces, n } = session;
  session = null;
  stream.getTracks().forEach((track) => track.stop());
  const rate = context.sampleRate;
  context.close();
  recording(false);
  if (keep && n) judge(wav(pieces, n, rate), `recording ${new Date().toLocaleTimeString()}.wav`);
}
function recording(on) {
  for (const id of ["stop", "cancel", "live"]) $(id).hidden = !on;
  for (const id of ["record", "invite", "choose"]) $(id).hidden = on;
  if (on) $("result").hidden = true;
  $("clock").textContent = "0:00";
}
function wav(pieces, n, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * n));
  const text = (at, word) => [...word].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * n, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true); view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, 2 * n, true);
  let at = 44;
  for (const piece of pieces) for (const x of piece) {
    view.setInt16(at, Math.round(Math.max(-1, Math.min(1, x)) * 32767), true);
    at += 2;
  }
  return new Blob([view], { type: "audio/wav" });
}
$("record").addEventListener("click", record);
$("stop").addEventListener("click", () => finish(true));
$("cancel").addEventListener("click", () => finish(false));

// ---- showing

function show(found, blob) {
  shown = found;
  const p = found.probability_bonafide;
  // Colours and "likely" only where a calibration stands behind them; a given threshold is just that.
  const [kind, title] = p !== null || found.verdict === "uncertain"
    ? VERDICTS[found.verdict]
    : ["", { "bona fide": "Above the given threshold", spoof: "Below the given threshold" }[found.verdict] || "A score, no verdict"];
  $("status").textContent = "";
  $("name").textContent = found.path;
  $("result").className = kind;
  $("verdict").textContent = title;
  $("odds").textContent = p === null
    ? `Score ${found.score.toFixed(4)}, which is no probability.`
    : `${percent(p)} real, ${percent(1 - p)} synthetic, if ${percent(about.prior)} of such recordings are real.`;
  $("detector").textContent = `Detector ${found.detector}: ` + (found.dev_eer === null
    ? "not calibrated."
    : `an equal error rate of ${(100 * found.dev_eer).toFixed(1)} % on ${found.n_dev_bonafide} real and ${found.n_dev_spoof} synthetic dev recordings.`);
  $("gauge").hidden = p === null;
  $("gauge").firstElementChild.style.left = `${100 * (p ?? 0)}%`;
  $("cautions").replaceChildren(...found.warnings.map((text) => element("li", `${text[0].toUpperCase()}${text.slice(1)}.`)));

  if (url) URL.revokeObjectURL(url);
  url = URL.createObjectURL(blob);
  $("player").src = url;
  const { low, high, ...plain } = found;
  if (saved) URL.revokeObjectURL(saved);
  saved = URL.createObjectURL(new Blob([JSON.stringify(plain, null, 1)], { type: "application/json" }));
  $("save").href = saved;

  const scored = found.windows.filter((w) => w.score !== null);
  const facts = [
    ["Score", found.score.toFixed(4)],
    ["Log-likelihood ratio", found.llr === null ? "not calibrated" : found.llr.toFixed(2)],
    ["Least window", found.score_min.toFixed(4)],
    ["Windows below threshold", found.ratio_below_threshold === null ? "no threshold" : `${percent(found.ratio_below_threshold)} of ${scored.length}`],
    ["Quality (MOS)", found.mos === null ? "not predicted" : found.mos.toFixed(2)],
    ["Length", `${found.duration_s.toFixed(2)} s`],
    ["Bandwidth", `${(found.bandwidth_hz / 1000).toFixed(2)} kHz`],
    ["Level", found.level_dbfs === null ? "silence" : `${found.level_dbfs.toFixed(0)} dBFS`],
  ];
  $("facts").replaceChildren(...facts.map(([term, value]) => {
    const box = element("div");
    box.append(element("dt", term), element("dd", value));
    return box;
  }));
  $("rows").replaceChildren(...found.windows.map((w) => {
    const row = element("tr");
    row.append(element("td", `${w.start_s.toFixed(2)} s`), element("td", `${w.end_s.toFixed(2)} s`), element("td", w.score === null ? "pause" : w.score.toFixed(4)));
    return row;
  }));
  $("result").hidden = false;
  draw(found);
  $("verdict").focus({ preventScroll: true });
  $("result").scrollIntoView({ block: "nearest" });
}
function percent(share) {
  if (share > 0.995 && share < 1) return "over 99 %";
  if (share < 0.005 && share > 0) return "under 1 %";
  return `${Math.round(100 * share)} %`;
}

const W = 900, H = 300, TOP = 110; // the waveform above, the scores below
function draw(found) {
  const svg = $("chart"), labels = $("labels");
  const make = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const peak = Math.max(0.01, ...found.high.map(Math.abs), ...found.low.map(Math.abs));
  const x = (s) => (W * s) / found.duration_s;
  const column = (i) => (W * (i + 0.5)) / found.low.length;
  const wave = [
    ...found.high.map((v, i) => `${column(i)},${TOP / 2 - 0.5 - (v / peak) * 50}`),
    ...found.low.map((v, i) => `${column(i)},${TOP / 2 + 0.5 - (v / peak) * 50}`).reverse(),
  ];
  const scores = found.windows.filter((w) => w.score !== null).map((w) => w.score);
  const marks = [...scores, ...(about.band || []).filter(Number.isFinite), about.threshold ?? scores[0]];
  let least = Math.min(...marks), most = Math.max(...marks);
  const room = Math.max(0.02, 0.1 * (most - least));
  least -= room; most += room;
  const y = (score) => Math.min(H, Math.max(TOP, H - 6 - ((score - least) / (most - least)) * (H - TOP - 20)));
  const parts = [make("line", { class: "axis", x1: 0, x2: W, y1: TOP, y2: TOP })];
  for (const w of found.windows) if (w.score === null) {
    parts.push(make("rect", { class: "pause", x: x(w.start_s), width: x(w.end_s - w.start_s), y: TOP, height: H - TOP }));
  }
  if (about.band && about.band[0] < about.band[1]) {
    parts.push(make("rect", { class: "band", x: 0, width: W, y: y(about.band[1]), height: y(about.band[0]) - y(about.band[1]) }));
  }
  parts.push(make("polygon", { class: "wave", points: wave.join(" ") }));
  if (about.threshold !== null) parts.push(make("line", { class: "threshold", x1: 0, x2: W, y1: y(about.threshold), y2: y(about.threshold) }));
  let run = [];
  const flush = () => { if (run.length > 1) parts.push(make("polyline", { class: "line", points: run.join(" ") })); run = []; };
  for (const w of found.windows) {
    if (w.score === null) { flush(); continue; }
    parts.push(make("line", { class: "span", x1: x(w.start_s), x2: x(w.end_s), y1: y(w.score), y2: y(w.score) }));
    run.push(`${x((w.start_s + w.end_s) / 2)},${y(w.score)}`);
  }
  flush();
  const head = make("line", { class: "head", x1: 0, x2: 0, y1: 0, y2: H });
  parts.push(head);
  svg.replaceChildren(...parts);
  svg.setAttribute("aria-label",
    `Waveform of ${found.duration_s.toFixed(1)} seconds and the scores of ${scores.length} windows, from ` +
    `${Math.min(...scores).toFixed(3)} to ${Math.max(...scores).toFixed(3)}; the table below has them all.`);
  const y_label = (text, score) => { const made = element("span", text, "y"); made.style.top = `${y(score)}px`; return made; };
  const x_label = (share, name) => {
    const made = element("span", `${(share * found.duration_s).toFixed(1)} s`, `x ${name}`);
    made.style.left = `${100 * share}%`;
    return made;
  };
  labels.replaceChildren(x_label(0, "first"), x_label(0.5, ""), x_label(1, "last"));
  if (about.threshold !== null) labels.append(y_label(`threshold ${about.threshold.toFixed(3)}`, about.threshold));
  $("caption").textContent =
    "Above the waveform, below the score of each window: higher means real." +
    (about.band && about.band[0] < about.band[1] ? " Shaded: no verdict." : "") +
    (found.windows.some((w) => w.score === null) ? " Grey: pauses, not scored." : "") +
    " Click to listen from there.";
  $("player").ontimeupdate = () => {
    const at = x($("player").currentTime);
    head.setAttribute("x1", at); head.setAttribute("x2", at);
  };
}
function nearest(event) {
  const box = $("chart").getBoundingClientRect();
  const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  const at = share * shown.duration_s;
  const distance = (w) => Math.abs((w.start_s + w.end_s) / 2 - at);
  return { share, at, window: shown.windows.reduce((a, b) => (distance(b) < distance(a) ? b : a)) };
}
$("chart").addEventListener("pointermove", (event) => {
  const { share, window: w } = nearest(event);
  $("tip").textContent = `${w.start_s.toFixed(1)} to ${w.end_s.toFixed(1)} s: ${w.score === null ? "pause" : w.score.toFixed(4)}`;
  $("tip").hidden = false;
  const width = $("chart").clientWidth;
  $("tip").style.left = `${Math.min(share * width, width - $("tip").offsetWidth)}px`;
});
$("chart").addEventListener("pointerleave", () => { $("tip").hidden = true; });
$("chart").addEventListener("click", (event) => {
  $("player").currentTime = nearest(event).at;
  $("player").play();
});
addEventListener("resize", () => { $("tip").hidden = true; });
