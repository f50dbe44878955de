"use strict";
// Without this script the pages work, too: times on hover are UTC then, and a page is as old as it is.

// How many milliseconds a page is shown before it is refreshed: at least and at most, and how many times as long as the
// server took for it. So each visitor costs the server a four hundredth of one processor at most.
const PERIOD = 10000;
const LONGEST = 60000;
const TIMES = 400;
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

// Shows what only a script can do: exact times in the zone of the visitor, and a box that selects all jobs of the page.
function enhance(page) {
  for (const time of page.querySelectorAll("time[datetime]")) {
    const date = new Date(time.dateTime);
    // A year with more than four digits is written in another way here.
    if (!Number.isNaN(date.getTime())) time.title = exact.format(date);
  }
  for (const box of page.querySelectorAll("[data-all]")) {
    box.hidden = false;
  }
}

enhance(document);
document.addEventListener("change", ({ target }) => {
  if (target.matches("[data-all]")) {
    for (const box of target.closest("table").querySelectorAll("input[name=id]")) {
      box.checked = target.checked;
    }
  }
});

// ---- Live refresh ----

// The option of a list that is chosen when the page comes.
function chosenFirst(list) {
  return Math.max([...list.options].findIndex((option) => option.defaultSelected), 0);
}

// Whether the visitor is doing something that new contents would disturb.
function isBusy() {
  const fields = [...document.querySelectorAll("main :is(input, select, textarea)")];
  return (
    fields.includes(document.activeElement) ||
    !getSelection().isCollapsed ||
    fields.some((field) => {
      if (field.type === "checkbox") return field.checked !== field.defaultChecked;
      if (field.options) return field.selectedIndex !== chosenFirst(field);
      return field.value !== field.defaultValue;
    })
  );
}

// Makes an element like another one. What is the same stays, with its focus and its scroll position. What the visitor has
// opened stays open.
function update(element, fresh) {
  if (element.nodeType !== Node.ELEMENT_NODE) {
    element.data = fresh.data;
    return;
  }
  for (const { name } of [...element.attributes]) {
    if (name !== "open" && !fresh.hasAttribute(name)) element.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (name !== "open" && element.getAttribute(name) !== value) element.setAttribute(name, value);
  }
  const keys = new Set([...fresh.children].map((child) => child.dataset.key));
  for (const child of [...element.children]) {
    if (child.dataset.key !== undefined && !keys.has(child.dataset.key)) child.remove();
  }
  let place = element.firstChild;
  for (const next of [...fresh.childNodes]) {
    const same = counterpart(element, place, next);
    if (same === null) {
      element.insertBefore(next, place);
      continue;
    }
    if (same === place) place = place.nextSibling;
    else element.insertBefore(same, place);
    update(same, next);
  }
  while (place) {
    const gone = place;
    place = place.nextSibling;
    gone.remove();
  }
}

// The child that becomes this one: a row with the same key, or what stands in the same place and has no key. A row never
// becomes the row of something else: who is about to click it means what it was.
function counterpart(parent, place, next) {
  const key = next.dataset?.key;
  if (key !== undefined) return [...parent.children].find((child) => child.dataset.key === key) ?? null;
  return place?.nodeName === next.nodeName && place.dataset?.key === undefined ? place : null;
}

const main = document.querySelector("main[data-refresh]");
const button = document.querySelector("[data-live]");
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });
let wait = PERIOD;
let timer;
let since = new Date();

function isLive() {
  return localStorage.getItem("procrastinate-live") !== "off";
}

function show(problem) {
  button.textContent = isLive() && problem ? `live: ${problem}` : "live";
  button.title = "Refresh this page every few seconds";
  button.setAttribute("aria-pressed", String(isLive()));
}

// Says at the top of the page that it is old, and why. Without a problem, it takes that away.
function warn(problem) {
  const old = main.querySelector(":scope > .stale");
  if (!problem) {
    old?.remove();
    return;
  }
  const banner = old ?? document.createElement("p");
  if (!old) {
    banner.className = "stale";
    banner.setAttribute("role", "status");
    main.prepend(banner);
  }
  const text = `These numbers are from ${clock.format(since)}. The page could not be refreshed: ${problem}.`;
  if (banner.textContent !== text) banner.textContent = text;
}

async function refresh() {
  if (!document.hidden && !isBusy()) {
    try {
      const response = await fetch(location.href, { headers: { accept: "text/html" } });
      const took = /dur=([\d.]+)/.exec(response.headers.get("server-timing"))?.[1] ?? 0;
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const fresh = page.querySelector("main[data-refresh]");
      if (!response.ok || !fresh) {
        retryLater(response.redirected ? "signed out" : `status ${response.status}`);
        return;
      }
      enhance(page);
      if (isLive() && !isBusy()) {
        warn();
        update(main, fresh);
        since = new Date();
      }
      wait = Math.min(Math.max(PERIOD, TIMES * took), LONGEST);
      show();
    } catch {
      retryLater("no connection");
      return;
    }
  }
  start();
}

function retryLater(problem) {
  wait = Math.min(wait * 2, LONGEST);
  show(problem);
  warn(problem);
  start();
}

function start() {
  clearTimeout(timer);
  if (isLive()) timer = setTimeout(refresh, wait);
}

if (main) {
  button.hidden = false;
  button.addEventListener("click", () => {
    localStorage.setItem("procrastinate-live", isLive() ? "off" : "on");
    show();
    start();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && isLive()) refresh();
  });
  show();
  start();
}
