"""The ticks of cron expressions by croniter, asked for as Procrastinate does: lines of JSON in, lines of JSON out."""

import json
import sys

import croniter


def ticks(expression, starts, count):
    try:
        cron = croniter.croniter(expression)
    except ValueError:
        return None
    return [[after(cron, start, count), before(cron, start)] for start in starts]


def after(cron, start, count):
    """The first ticks after a time; none where croniter gives up."""
    cron.set_current(start_time=start)
    found = []
    try:
        for _ in range(count):
            found.append(round(cron.get_next(ret_type=float)))
    except croniter.CroniterBadDateError:
        pass
    return found


def before(cron, start):
    """The last tick until a time. croniter leaves out a tick at that very time, which a clock hardly ever shows."""
    cron.set_current(start_time=start + 0.25)
    try:
        return round(cron.get_prev(ret_type=float))
    except croniter.CroniterBadDateError:
        return None


for line in sys.stdin:
    question = json.loads(line)
    print(json.dumps(ticks(**question)))
