"use strict";
// The exact times are those of the visitor's time zone. Without this script they are UTC.
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
for (const time of document.querySelectorAll("time[datetime]")) {
  time.title = exact.format(new Date(time.dateTime));
}
// A box that selects all jobs of the page.
for (const all of document.querySelectorAll("[data-all]")) {
  all.hidden = false;
  all.addEventListener("change", () => {
    for (const box of all.closest("table").querySelectorAll("input[name=id]")) {
      box.checked = all.checked;
    }
  });
}
