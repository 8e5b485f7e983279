"""The account of a soak: what was acknowledged against what each client was given, message by message.

Pure: it is given what happened, and knows no process and no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import msgspec

Place = tuple[str, int]
"""An epoch and an offset in it."""


class Given(msgspec.Struct, frozen=True, array_like=True, tag="message"):
    """A message that a client was given; its text is unlike that of any other."""

    epoch: str
    offset: int
    text: str


class Told(msgspec.Struct, frozen=True, array_like=True, tag="gap"):
    """A gap that a client was told of: offsets `first` to `last` of `epoch`; `before` is the epoch before, if it is
    new."""

    epoch: str
    first: int
    last: int
    before: str | None = None


class Record(msgspec.Struct, frozen=True):
    """What a client of a group was given, in its order."""

    group: str
    kind: str
    entries: list[Given | Told]


@dataclass
class Verdict:
    """Messages, counted for each client that should have them."""

    acknowledged: int = 0
    """Messages, counted once."""
    due: int = 0
    delivered: int = 0
    lost: int = 0
    """Acknowledged, not delivered, and the client was not told."""
    told: int = 0
    """Acknowledged and not delivered, as the client was told by a gap or a new epoch."""
    doubled: int = 0
    disordered: int = 0
    silent: int = 0
    """Offsets that were left out without a gap."""
    misplaced: int = 0
    """Delivered elsewhere than the receipt said."""
    epochs: int = 0
    """New epochs that clients were told of."""
    not_told: int = 0
    """Clients that were told of no new epoch."""

    @property
    def spotless(self) -> bool:
        """Nothing lost, told or not, and nothing that should not have come."""
        return self.honest and not self.told and self.delivered == self.due

    @property
    def honest(self) -> bool:
        """Whatever was lost was told, and nothing came that should not have come."""
        return not (self.lost or self.doubled or self.disordered or self.silent or self.misplaced)

    def __str__(self) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in asdict(self).items())


def judge(receipts: Mapping[str, Mapping[str, Place]], records: Sequence[Record]) -> Verdict:
    """Compare what was acknowledged (for each group: the place of each text) with what the clients were given."""
    verdict = Verdict(acknowledged=sum(map(len, receipts.values())))
    for record in records:
        _judge_client(verdict, receipts.get(record.group, {}), record.entries)
    return verdict


def _judge_client(verdict: Verdict, receipts: Mapping[str, Place], entries: Iterable[Given | Told]) -> None:
    reading = _Reading()
    for entry in entries:
        if isinstance(entry, Told):
            reading.gap(entry)
        else:
            reading.message(verdict, entry, receipts.get(entry.text))
    verdict.due += len(receipts)
    verdict.delivered += len(receipts.keys() & reading.texts)
    verdict.epochs += reading.epochs
    verdict.not_told += not reading.epochs
    for text in receipts.keys() - reading.texts:
        if reading.knows_of(receipts[text]):
            verdict.told += 1
        else:
            verdict.lost += 1


@dataclass
class _Reading:
    """One client's stream, read from its beginning."""

    texts: set[str] = field(default_factory=set)
    epochs: int = 0
    _epoch: str = ""
    _offset: int = 0
    _here: set[str] = field(default_factory=set)  # texts in this epoch
    _gaps: list[Told] = field(default_factory=list)

    def gap(self, told: Told) -> None:
        if told.before is not None:
            self.epochs += 1
            self._epoch, self._here = told.epoch, set()
        self._gaps.append(told)
        self._offset = told.last

    def message(self, verdict: Verdict, given: Given, receipt: Place | None) -> None:
        if not self._epoch:  # the first of all: what was before it was published before this client came
            self._epoch, self._offset = given.epoch, given.offset - 1
        if given.epoch != self._epoch or given.offset > self._offset + 1:
            verdict.silent += 1
        elif given.offset <= self._offset:
            verdict.disordered += 1
        verdict.doubled += given.text in self._here
        verdict.misplaced += receipt is not None and receipt[0] == given.epoch and receipt[1] != given.offset
        self._epoch, self._offset = given.epoch, given.offset
        self._here.add(given.text)
        self.texts.add(given.text)

    def knows_of(self, place: Place) -> bool:
        """Whether a message that was not delivered is in a gap, or of an epoch that has ended."""
        epoch, offset = place
        if any(gap.epoch == epoch and gap.first <= offset <= gap.last for gap in self._gaps):
            return True
        return bool(self.epochs) and epoch != self._epoch
