"""Marks of packets and of flows, within a mask: the other bits belong to others."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from schema.plan import ranges
from schema.plan.base import Model


class Marks(Model):
    """Number 0 is the value itself; the others follow it in the order of what fits into the mask, without 0.

    So all of them differ, none is 0 (which is no mark at all), and none has a bit outside of the mask.
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
        """How many there are."""
        return (1 << self.mask.bit_count()) - 1

    def at(self, number: int) -> int:
        """The value of a mark by its number. Raises IndexError where the mask has no room for it."""
        if not 0 <= number < self.count:
            raise IndexError(f"{self} has {self.count} marks, and none of the number {number}")
        return _spread((_gathered(self.value, self.mask) - 1 + number) % self.count + 1, self.mask)

    def match(self, number: int) -> str:
        """A mark as the matches `mark` and `connmark` of iptables-save(8) print it."""
        return self._text(self.at(number))

    @property
    def none(self) -> str:
        """No mark of ours, in the same words."""
        return self._text(0)

    def put(self, number: int) -> str:
        """A mark for `--set-xmark`: all other bits stay as they are."""
        return f"{self.at(number):#x}/{self.mask:#x}"

    @property
    def fwmask(self) -> int | None:
        """The mask of a rule, as the kernel shows it: a whole one is left out."""
        return None if self.mask == ranges.WORD else self.mask

    @property
    def bypass(self) -> int:
        """The value of what may leave by the underlay."""
        return self.at(ranges.BYPASS_MARK.first)

    def __str__(self) -> str:
        return f"{self.value:#x}/{self.mask:#x}"

    def _text(self, value: int) -> str:
        return f"{value:#x}" if self.fwmask is None else f"{value:#x}/{self.mask:#x}"


def _bits(mask: int) -> list[int]:
    """The bits of a mask, from the lowest."""
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]


def _gathered(value: int, mask: int) -> int:
    """The bits of a value that are in a mask, side by side."""
    return sum((value >> bit & 1) << n for n, bit in enumerate(_bits(mask)))


def _spread(number: int, mask: int) -> int:
    """The way back."""
    return sum((number >> n & 1) << bit for n, bit in enumerate(_bits(mask)))


DEFAULT = Marks(value=ranges.MARKS[0], mask=ranges.MARKS[1])
BEFORE = Marks(value=ranges.MARKS_BEFORE[0], mask=ranges.MARKS_BEFORE[1])
