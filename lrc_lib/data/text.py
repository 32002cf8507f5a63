"""Text made safe to show: data may hold control characters."""

import unicodedata

JOINERS = "\u200c\u200d"  # parts of some scripts and of emoji


def visible(text) -> str:
    """`text` with control and direction characters made visible, e.g. a NUL as the sign ␀.

    Line breaks and tabs stay. Lone surrogates become the replacement character.
    """

    def shown(char: str) -> str:
        code = ord(char)
        if char in "\n\t" + JOINERS or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co"):
            return char
        if code < 32:
            return chr(0x2400 + code)
        return "\N{SYMBOL FOR DELETE}" if code == 127 else f"\N{REPLACEMENT CHARACTER}({code:04X})"

    return "".join(shown(char) for char in str(text))
