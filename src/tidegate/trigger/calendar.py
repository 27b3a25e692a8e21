"""When cron asks for a run: the schedule's own cron, and a denser one while an announced event lasts. All in UTC."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from tidegate.errors import UserError
from tidegate.monitor.times import iso
from tidegate.spec import CalendarEvent, ScheduleTrigger

MINUTE = 60.0


def check_schedule(schedule: ScheduleTrigger, where: str = "triggers.schedule") -> None:
    """UserError naming the field, where a cron or a bound of an event does not parse or never comes."""
    first_after(schedule.cron, 0.0, f"{where}.cron")
    for at, event in enumerate(schedule.events):
        start, end = bounds(event, f"{where}.events[{at}]")
        first_after(event.cron, 0.0, f"{where}.events[{at}].cron")
        if end <= start:
            raise UserError(f"{where}.events[{at}].to", event.to, f"a time after `from`, {event.from_}")


def due(schedule: ScheduleTrigger, after: float | None, until: float) -> str | None:
    """What cron time has passed since the last tick, in words; None when none has.

    Looked at are the times in (after, until]; on the first tick (`after` None) the minute that `until` lies in. A
    calendar event's cron counts from its `from` to before its `to`.
    """
    begin = math.floor(until / MINUTE) * MINUTE - 1 if after is None else after
    for at, event in enumerate(schedule.events):
        where = f"triggers.schedule.events[{at}]"
        start, end = bounds(event, where)
        if begin < end and start <= until:
            time = first_after(event.cron, max(begin, math.ceil(start) - 1), f"{where}.cron")
            if time <= until and time < end:
                return f"{event.name}, {iso(time)}"
    time = first_after(schedule.cron, begin, "triggers.schedule.cron")
    return iso(time) if time <= until else None


def bounds(event: CalendarEvent, where: str = "event") -> tuple[float, float]:
    """From and to in seconds: ISO 8601, UTC where no zone is given; a `to` that is a bare date includes that day."""
    return _bound(event.from_, f"{where}.from", timedelta(0)), _bound(event.to, f"{where}.to", timedelta(days=1))


def _bound(text: str, where: str, whole_day: timedelta) -> float:
    try:
        if len(text) == len("2013-02-08"):
            day = date.fromisoformat(text)
            return (datetime(day.year, day.month, day.day, tzinfo=UTC) + whole_day).timestamp()
        time = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(where, text, "ISO 8601, for example 2013-02-08 or 2013-02-08T06:00:00Z") from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def first_after(cron: str, after: float, where: str) -> float:
    """The first time of a cron line after a time. Remembers the last answer: ticks mostly fall before the same one."""
    memory = _memory(cron)
    if memory and memory[0][0] <= after < memory[0][1]:
        return memory[0][1]
    from croniter import croniter

    takes = "a cron line of five fields (minute hour day month weekday) whose time comes, in UTC"
    if len(cron.split()) != 5:
        raise UserError(where, cron, takes)
    try:
        time = float(croniter(cron, datetime.fromtimestamp(math.floor(after), UTC)).get_next(float))
    except ValueError:
        raise UserError(where, cron, takes) from None
    memory[:] = [(after, time)]
    return time


@lru_cache(maxsize=256)
def _memory(cron: str) -> list[tuple[float, float]]:
    return []
