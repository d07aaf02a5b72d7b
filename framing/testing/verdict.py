"""What a verification says: the verdict where the laws hold, and the error that names the one that does not.

Both are plain values, so that any test runner, or none, can print and compare them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

__all__ = ["LAWS", "LawBroken", "Verdict"]

LAWS: dict[int, str] = {
    1: "cuts change nothing",
    2: "what goes in comes out",
    3: "nothing good is lost",
    4: "a half frame is never a clean end",
    5: "limits come first",
    6: "memory follows received bytes",
    7: "cost is linear",
    8: "errors are useful",
    9: "encoding state is explicit",
}
"""The laws by number, in the words of the documentation."""

_SHOWN = 160
_SHOWN_CHUNKS = 12


@dataclass(frozen=True, slots=True)
class Verdict:
    """All laws that apply hold, as far as was looked: ``checks`` is how many runs each law was judged by.

    ``seed`` and ``examples`` give the same verdict again.
    """

    subject: str
    seed: int
    examples: int
    checks: dict[int, int]

    def __str__(self) -> str:
        laws = ", ".join(f"{law} ({count})" for law, count in sorted(self.checks.items()))
        return (
            f"{self.subject} keeps the laws, by number (and runs): {laws}; seed={self.seed}, examples={self.examples}"
        )


class LawBroken(AssertionError):
    """A law does not hold: which, on which bytes, cut where, what was expected and what came.

    ``law`` is its number, ``name`` its words; ``reason`` says what was done; ``stream`` the bytes that were fed, ``cuts``
    where they were cut into chunks; ``expected`` and ``got`` what should have come of it and what did. ``seed`` and
    ``examples`` repeat the verification.
    """

    def __init__(
        self,
        law: int,
        reason: str,
        *,
        subject: str = "",
        stream: bytes = b"",
        cuts: tuple[int, ...] = (),
        expected: Any = None,
        got: Any = None,
        seed: int = 0,
        examples: int = 0,
    ) -> None:
        self.law = law
        self.name = LAWS[law]
        self.reason = reason
        self.subject = subject
        self.stream = stream
        self.cuts = cuts
        self.expected = expected
        self.got = got
        self.seed = seed
        self.examples = examples
        super().__init__(self._report())

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (self.__dict__.copy(),))

    @property
    def chunks(self) -> list[bytes]:
        """The stream as it was fed: feed these one by one to see it happen."""
        edges = [0, *self.cuts, len(self.stream)]
        return [self.stream[begin:end] for begin, end in pairwise(edges)]

    def _report(self) -> str:
        chunks = self.chunks
        shown = ", ".join(_short(chunk) for chunk in chunks[:_SHOWN_CHUNKS])
        more = f", … {len(chunks)} chunks in all" if len(chunks) > _SHOWN_CHUNKS else ""
        return "\n".join(
            (
                f"law {self.law} is broken: {self.name}",
                f"  by        {self.subject}",
                f"  because   {self.reason}",
                f"  fed       {shown}{more}",
                f"  cut at    {', '.join(map(str, self.cuts[:_SHOWN_CHUNKS])) or 'nowhere'}",
                f"  expected  {_short(self.expected)}",
                f"  got       {_short(self.got)}",
                f"  again     seed={self.seed}, examples={self.examples}",
            )
        )


def _rebuild(state: dict[str, Any]) -> LawBroken:
    state = {key: value for key, value in state.items() if key != "name"}
    return LawBroken(state.pop("law"), state.pop("reason"), **state)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"
