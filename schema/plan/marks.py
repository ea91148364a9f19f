"""Marks of packets and flows, within a mask. Other programs use the other bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import Field, model_validator

from schema.plan import ranges
from schema.plan.base import Model


class Marks(Model):
    """A series of marks. Number 0 is `value`; the next numbers are the next values within the mask, without 0.

    All marks are different. None is 0, which means no mark. None has a bit outside of the mask.
    """

    value: int = Field(ge=1, le=ranges.WORD)
    mask: int = Field(ge=1, le=ranges.WORD)

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.value & ~self.mask:
            raise ValueError(f"{self.value:#x} has bits that are not in the mask {self.mask:#x}")
        return self

    @property
    def count(self) -> int:
        """The number of marks in the series."""
        return (1 << self.mask.bit_count()) - 1

    def at(self, number: int) -> int:
        """The value of the mark with this number. Raises IndexError if the mask is too small for it."""
        if not 0 <= number < self.count:
            raise IndexError(f"{self} has {self.count} marks, and none of the number {number}")
        return _spread((_gathered(self.value, self.mask) - 1 + number) % self.count + 1, self.mask)

    def match(self, number: int) -> str:
        """A mark in the form of iptables-save(8)'s matches `mark` and `connmark`."""
        return self._text(self.at(number))

    @property
    def none(self) -> str:
        """The match for packets without a mark of ours, in the same form."""
        return self._text(0)

    def put(self, number: int) -> str:
        """The argument of `--set-xmark` for a mark. It leaves all other bits unchanged."""
        return f"{self.at(number):#x}/{self.mask:#x}"

    def others(self, number: int) -> Iterator[tuple[int, int]]:
        """Values and masks that match all packets without this mark: one for each bit in which they may differ."""
        value = self.at(number)
        return ((~value & 1 << bit, 1 << bit) for bit in _bits(self.mask))

    @property
    def fwmask(self) -> int | None:
        """The mask of a rule in the kernel's form: None for a full mask."""
        return None if self.mask == ranges.WORD else self.mask

    @property
    def bypass(self) -> int:
        """The mark of packets that may leave by the underlay."""
        return self.at(ranges.BYPASS_MARK.first)

    def __str__(self) -> str:
        return f"{self.value:#x}/{self.mask:#x}"

    def _text(self, value: int) -> str:
        return f"{value:#x}" if self.fwmask is None else f"{value:#x}/{self.mask:#x}"


def _bits(mask: int) -> list[int]:
    """The positions of the bits of a mask, from the lowest."""
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]


def _gathered(value: int, mask: int) -> int:
    """The bits of a value that are in a mask, packed together."""
    return sum((value >> bit & 1) << n for n, bit in enumerate(_bits(mask)))


def _spread(number: int, mask: int) -> int:
    """The inverse of `_gathered`."""
    return sum((number >> n & 1) << bit for n, bit in enumerate(_bits(mask)))


DEFAULT = Marks(value=ranges.MARKS[0], mask=ranges.MARKS[1])
BEFORE = Marks(value=ranges.MARKS_BEFORE[0], mask=ranges.MARKS_BEFORE[1])
