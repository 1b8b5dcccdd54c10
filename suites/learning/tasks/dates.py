"""Dates: from many written forms into ISO 8601, by an encoder and a decoder."""

from __future__ import annotations

import datetime
import random
from functools import cache

import torch

from bakeoff.suites.learning.task import SPLITS, Examples, Task

#: Written out here, since those of strftime depend on the locale.
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
#: In the names of :meth:`datetime.date.strftime`; that the order of day and month differs is told
#: by what stands between them.
FORMS = ("%d %B %Y", "%B %d, %Y", "%d.%m.%Y", "%m/%d/%Y", "%d-%b-%y", "%A, %d %B %Y", "%b %d %y",
         "%Y%m%d")  # fmt: skip
FIRST, LAST = datetime.date(1970, 1, 1), datetime.date(2029, 12, 31)
SOURCE, TARGET = len("wednesday, 30 september 2029"), len("2029-09-30")
#: 0 fills up, 1 begins an answer.
ALPHABET = "\0^ abcdefghijklmnopqrstuvwxyz0123456789.,/-"
START = 1


def written(date: datetime.date, form: str) -> str:
    """The date in one of :data:`FORMS`, in small letters.

    Example:
        >>> written(datetime.date(1994, 3, 7), "%A, %d %B %Y")
        'monday, 07 march 1994'
    """
    month = MONTHS[date.month - 1]
    names = {"%B": month, "%b": month[:3], "%A": DAYS[date.weekday()], "%Y": f"{date.year}"}
    numbers = {"%d": date.day, "%m": date.month, "%y": date.year % 100}
    for code, text in {**names, **{c: f"{n:02d}" for c, n in numbers.items()}}.items():
        form = form.replace(code, text)
    return form.lower()


@cache
def _days(split: str) -> tuple[datetime.date, ...]:
    """Of every 10 days 8 to train on, 1 to choose by and 1 to test on, in a fixed random order."""
    days = [FIRST + datetime.timedelta(n) for n in range((LAST - FIRST).days + 1)]
    random.Random(0).shuffle(days)
    shares = dict(zip(SPLITS, ((0, 8), (8, 9), (9, 10)), strict=True))
    first, last = (len(days) * tenths // 10 for tenths in shares[split])
    return tuple(days[first:last])


@cache
def make(split: str, count: int, seed: int) -> Examples:
    """Dates in forms drawn at random; the days of a split are in no other."""
    generator = random.Random(seed * len(SPLITS) + SPLITS.index(split))
    days = generator.choices(_days(split), k=count)
    x = [_codes(written(day, generator.choice(FORMS)), SOURCE) for day in days]
    y = torch.tensor([_codes(day.isoformat(), TARGET) for day in days])
    given = torch.cat([torch.full((count, 1), START), y[:, :-1]], 1)
    return Examples(torch.tensor(x), y, given)


def _codes(text: str, length: int) -> list[int]:
    return [ALPHABET.index(character) for character in text.ljust(length, "\0")]


TASKS = (
    Task(
        name="dates",
        summary="A date as people write it, to be translated into ISO 8601; right if all of it is.",
        source="days from 1970 to 2029 in eight written forms; model of Vaswani et al. (2017)",
        make=make,
        length=SOURCE,
        entries=len(ALPHABET),
        outputs=len(ALPHABET),
        model="encoder_decoder",
        pattern="cross",
        target_length=TARGET,
        # Under teacher forcing all answers are right just where greedy decoding is right.
        whole=True,
        pool=8192,
        steps=1000,
        target=0.9,
    ),
)
