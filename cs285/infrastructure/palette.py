"""What all figures share: colours, font sizes and number formats.

The colours are Okabe and Ito's palette, which colour-blind readers can distinguish.
"""

BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
GREY = "#767676"
INK = "#1a1a1a"
WALL = "#4d4d4d"

TITLE_SIZE = 12
LABEL_SIZE = 11


def signed(value: float) -> str:
    """Format a number with one decimal and the minus sign of axis labels."""
    return f"{value:.1f}".replace("-", "\N{MINUS SIGN}")


def thousands(number: float) -> str:
    """Format a number of steps briefly: 500, 2.5k, 100k."""
    return f"{number:g}" if abs(number) < 1_000 else f"{number / 1_000:g}k"  # noqa: PLR2004 - a thousand
