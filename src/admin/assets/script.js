"use strict";
// The exact times are those of the visitor's time zone. Without this script they are UTC.
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
for (const time of document.querySelectorAll("time[datetime]")) {
  time.title = exact.format(new Date(time.dateTime));
}
