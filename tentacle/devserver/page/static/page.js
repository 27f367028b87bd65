// What a page cannot do without a script: follow a log, take up what has changed, copy.  Nothing here is needed to use
// the pages; text from elsewhere only ever becomes text.
"use strict";

const MOST_LINES = 5000; // of one activity; the whole log is a link
const EVERY = 2000; // milliseconds between two looks at what may have changed
const say = (text) => { document.getElementById("said").textContent = text; };

// --- what changes -----------------------------------------------------------------------------------------------

function fetched(address) {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.responseType = "document";
    request.open("GET", address);
    request.onload = () => (request.status === 200 && request.response ? done(request.response) : failed(request.status));
    request.onerror = request.ontimeout = () => failed(0);
    request.timeout = 20000;
    request.send();
  });
}

// Replaces each part that is marked with `data-fresh` by what the server shows now, unless somebody is using it.
async function refresh() {
  const parts = [...document.querySelectorAll("[data-fresh]")];
  if (!parts.length) return;
  let now;
  try {
    now = await fetched(parts.map((part) => part.dataset.fresh).find(Boolean) || location.href);
  } catch (status) {
    if (status === 401) location.reload(); // the session has ended
    document.getElementById("lost").hidden = status !== 0;
    return;
  }
  document.getElementById("lost").hidden = true;
  for (const part of parts) {
    const fresh = now.getElementById(part.id);
    const used = part.contains(document.activeElement) || part.querySelector("details[open]");
    if (fresh && !used && fresh.outerHTML !== part.outerHTML) part.replaceWith(document.adoptNode(fresh));
  }
  for (const fresh of now.querySelectorAll(".activity")) {
    const known = activity(fresh.dataset.name);
    if (known.firstElementChild.outerHTML !== fresh.firstElementChild.outerHTML) {
      known.firstElementChild.replaceWith(document.adoptNode(fresh.firstElementChild));
    }
  }
}

async function refreshing() {
  for (;;) {
    await new Promise((done) => setTimeout(done, EVERY));
    if (!document.hidden) await refresh();
  }
}

// --- the log ----------------------------------------------------------------------------------------------------

const log = document.getElementById("log");

function activity(name) {
  for (const known of log ? log.children : []) if (known.dataset.name === name) return known;
  const made = document.getElementById("activity").content.firstElementChild.cloneNode(true);
  made.dataset.name = name;
  made.querySelector("h3").textContent = name;
  log.append(made);
  return made;
}

function append(lines, time, category, text) {
  const line = document.createElement("p");
  line.className = category;
  line.dataset.time = time;
  const words = document.createElement("span");
  if (category === "Warning" || category === "Error" || category === "Fatal") {
    const kind = document.createElement("b");
    kind.textContent = `${category}: `;
    words.append(kind);
  }
  words.append(text);
  line.append(words);
  lines.append(line);
  if (lines.childElementCount > MOST_LINES) lines.firstElementChild.remove();
}

// Follows the raw log: `hh:mm:ss   Category |   text`, and `== name ==` before the lines of another activity.
async function follow(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(answer.statusText);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let lines = null;
  for (;;) {
    const { value, done } = await reader.read();
    const written = (rest + (value || "")).split("\n");
    rest = written.pop();
    const ends = new Map();
    for (const text of written) {
      const next = /^ {21}\|   == (.*) ==$/.exec(text);
      const line = /^(\d\d:\d\d:\d\d)   (\w+) *\|   (.*)$/.exec(text);
      if (next) {
        lines = activity(next[1]).querySelector(".lines");
        if (!ends.has(lines)) ends.set(lines, lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40);
      } else if (lines && line) {
        append(lines, line[1], line[2], line[3]);
      } else if (lines) {
        append(lines, "", "Info", text);
      }
      if (lines && !ends.has(lines)) ends.set(lines, true);
    }
    for (const [part, atEnd] of ends) if (atEnd) part.scrollTop = part.scrollHeight;
    if (done) return;
  }
}

async function following() {
  try {
    await follow(log.dataset.follow);
  } catch {
    document.getElementById("lost").hidden = false; // and come back when the server does
    for (;;) {
      await new Promise((done) => setTimeout(done, EVERY));
      if (await fetched(location.href).then(() => true, () => false)) return location.reload();
    }
  }
  await refresh();
  const state = document.querySelector("#head .state");
  if (state) say(`The task has ended: ${state.textContent.trim()}`);
}

// --- small things -----------------------------------------------------------------------------------------------

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = button.parentElement.querySelector("pre");
  getSelection().selectAllChildren(source);
  try {
    await navigator.clipboard.writeText(source.textContent);
    say("Copied");
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  } catch {
    say("Selected; copy it with your keyboard");
  }
});

for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
for (const chosen of document.querySelectorAll("select[data-go]")) {
  chosen.addEventListener("change", () => chosen.form.requestSubmit());
}
const verbose = document.getElementById("verbose");
if (verbose) {
  const show = () => log.classList.toggle("brief", !verbose.checked);
  verbose.closest("label").hidden = false;
  verbose.addEventListener("change", show);
  show();
}
const failure = document.querySelector(".problem");
if (failure) failure.focus();
if (log && log.dataset.follow) following();
if (document.querySelector("[data-fresh]")) refreshing();
