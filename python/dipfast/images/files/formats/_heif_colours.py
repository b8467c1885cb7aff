"""Colours of AVIF and HEIC as numbers of the standard H.273, where there is no colour profile."""

from __future__ import annotations

__all__ = ["lost_colours"]

# What is sRGB, or shown as if it were: unspecified, BT.709, BT.601 and sRGB.
_USUAL_PRIMARIES = (1, 2)
_USUAL_TRANSFERS = (1, 2, 6, 13, 14, 15)
_PRIMARIES = {
    4: "BT.470M",
    5: "BT.470BG",
    6: "BT.601",
    9: "BT.2020",
    11: "DCI-P3",
    12: "Display P3",
}
_TRANSFERS = {8: "linear", 16: "PQ", 18: "HLG"}


def lost_colours(primaries: int, transfer: int) -> tuple[str, ...]:
    """Return what is lost of a picture whose colours are given by numbers.

    Parameters
    ----------
    primaries
        Number of the primaries.
    transfer
        Number of the transfer characteristics.

    Returns
    -------
    tuple of str
        The colour space in words; empty where a picture without a colour profile is understood
        in the same way.
    """
    names = []
    if primaries not in _USUAL_PRIMARIES:
        names.append(_PRIMARIES.get(primaries, f"primaries {primaries}"))
    if transfer not in _USUAL_TRANSFERS:
        names.append(_TRANSFERS.get(transfer, f"transfer {transfer}"))
    return (f"colour space ({', '.join(names)})",) if names else ()
