// Finds the sections that hold all words. INDEX (search-index.js) is a list of
// [url, page, heading, text]; everything is shown as text, never as HTML.
"use strict";

const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
const sections = INDEX.map(([url, page, heading, text]) => {
  return { url, page, heading, text, head: fold(`${page} ${heading}`), body: fold(text) };
});

function score(section, words) {
  let sum = 0;
  for (const word of words) {
    const times = section.body.split(word).length - 1;
    const inHead = section.head.includes(word);
    if (!times && !inHead) return 0;
    sum += Math.min(times, 5) + (inHead ? 10 : 0);
  }
  return sum;
}

// The text around the first word found, with all words marked.
function excerpt(section, words) {
  const text = section.text;
  const lower = text.toLowerCase();
  const places = words.map((word) => lower.indexOf(word)).filter((place) => place >= 0);
  const begin = Math.max(0, Math.min(...places, text.length) - 60);
  const paragraph = document.createElement("p");
  const shown = text.slice(places.length ? begin : 0, (places.length ? begin : 0) + 220);
  const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  for (const [i, part] of shown.split(new RegExp(`(${escaped.join("|")})`, "i")).entries()) {
    const node = document.createElement(i % 2 ? "mark" : "span");
    node.textContent = part;
    paragraph.append(node);
  }
  paragraph.prepend(begin && places.length ? "… " : "");
  paragraph.append(" …");
  return paragraph;
}

function item(section, words) {
  const link = document.createElement("a");
  link.href = section.url;
  link.textContent = section.heading;
  const where = document.createElement("small");
  where.textContent = section.page === section.heading ? "" : ` ${section.page}`;
  const entry = document.createElement("li");
  entry.append(link, where, excerpt(section, words));
  return entry;
}

function find(query) {
  const words = fold(query).split(/\s+/).filter(Boolean);
  const found = words.length
    ? sections
        .map((section) => [score(section, words), section])
        .filter(([points]) => points)
        .sort(([a], [b]) => b - a)
    : [];
  const count = document.getElementById("count");
  count.textContent = words.length
    ? `${found.length} section${found.length === 1 ? "" : "s"}${found.length > 40 ? ", the best 40" : ""}`
    : "A section is found when it holds all the words.";
  const items = found.slice(0, 40).map(([, section]) => item(section, words));
  document.getElementById("found").replaceChildren(...items);
}

const input = document.getElementById("words");
input.value = new URLSearchParams(location.search).get("q") || "";
input.addEventListener("input", () => find(input.value));
document.getElementById("search").addEventListener("submit", (event) => event.preventDefault());
find(input.value);
input.focus();
