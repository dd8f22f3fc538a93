"""docs/webhooks.md shows every event, as it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from django.conf import settings

from events import outbox
from webhooks import rules, schedule, wording

TEXT = (Path(settings.BASE_DIR) / "docs" / "webhooks.md").read_text("utf-8")


def examples() -> dict[str, dict[str, Any]]:
    """Each event's example: those of one heading share theirs."""
    found: dict[str, dict[str, Any]] = {}
    for heading, section in re.findall(r"^### (.+?)\n(.*?)(?=^##)", TEXT, re.M | re.S):
        [example] = re.findall(r"```json\n(.*?)```", section, re.S)
        body = json.loads(example)
        assert body["type"] == heading.split(", ")[0]
        found |= dict.fromkeys(heading.split(", "), body)
    return found


def test_every_event_has_an_example_and_words() -> None:
    assert list(examples()) == [*outbox.EVENTS, rules.TEST_EVENT]
    assert list(wording.EVENT_TEXTS) == [*outbox.EVENTS, rules.TEST_EVENT]


def test_the_pauses_are_those_of_the_schedule() -> None:
    texts = ["5 s", "30 s", "2 min", "10 min", "30 min", "1 h", "2 h", "4 h", "8 h", "8 h"]
    seconds = {"s": 1, "min": 60, "h": 3_600}
    named = [int(number) * seconds[unit] for number, unit in (text.split() for text in texts)] + [12 * 3_600] * 4
    assert named == [pause.total_seconds() for pause in schedule.PAUSES]
    assert f"{', '.join(texts)} and four times 12 h" in " ".join(TEXT.split())
