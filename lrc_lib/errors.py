"""The kit's own errors: one sentence says what is wrong, the next one what to do about it.

`reproduce.py` and `python -m lrc_lib` print these without a traceback and end with `exit_code`.
"""

import difflib

MOST_BYTES = 2048  # of a message
MOST_OPTIONS = 30  # that an error lists


def one_line(text) -> str:
    """`text`, which may quote a file, as one line of at most `MOST_BYTES` bytes of UTF-8.

    Control characters and lone surrogates are shown as Python writes them, e.g. ``\\x1b``.
    """
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text)).encode()
    if len(shown) > MOST_BYTES:  # what is wrong comes first, what to do about it last
        shown = shown[: MOST_BYTES // 2] + b" [...] " + shown[-MOST_BYTES // 4 :]
    return shown.decode(errors="ignore")


class LrcError(Exception):
    """Anything the user can mend. It is shown by `one_line`. Subclasses set the exit code."""

    exit_code = 1

    def __str__(self) -> str:
        return one_line(super().__str__())


class InputError(LrcError, ValueError):
    """A wrong name, value or file: exit code 2."""

    exit_code = 2


class UnavailableError(LrcError, OSError):
    """Something that is not on this machine and could not be fetched: exit code 3."""

    exit_code = 3


class TrainingError(LrcError, RuntimeError):
    """A run that cannot continue, e.g. a loss that is not a number: exit code 1."""


def nearest(word: str, options) -> str:
    """`" Did you mean 'x'?"` for the option closest to `word`, and the list of all options.

    Of more than `MOST_OPTIONS`, only those that are like `word` are listed, if there are any.
    """
    options = [str(option) for option in options]
    close = difflib.get_close_matches(str(word).lower(), options, n=5, cutoff=0.4)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    if close and len(options) > MOST_OPTIONS:
        return hint + f" Near it: {', '.join(close)}." * (len(close) > 1)
    return f"{hint} Known: {', '.join(options)}."


def unknown(kind: str, word: str, options) -> InputError:
    """The error for a name that is not in `options`, with the nearest right one."""
    return InputError(f"Unknown {kind} '{word}'.{nearest(word, options)}")
