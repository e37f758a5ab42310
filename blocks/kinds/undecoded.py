"""A value that a source has and Python cannot, as a text for people."""


class Undecoded:
    """Stands for a value that could not be decoded, such as ``infinity`` for a date. It shows the value's text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text
