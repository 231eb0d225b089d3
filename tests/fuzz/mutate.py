"""Changes to the bytes of a file, as damage and malice make them."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

INTERESTING = (
    0,
    1,
    2,
    7,
    8,
    15,
    16,
    63,
    64,
    127,
    128,
    255,
    256,
    1024,
    4096,
    65535,
    65536,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**63 - 1,
    2**63,
    2**64 - 1,
)


def mutated(data: bytes, others: Sequence[bytes], dice: random.Random) -> bytes:
    """One to a dozen changes: bits, bytes, numbers, blocks cut, doubled, moved or taken from others."""
    made = bytearray(data)
    for _ in range(min(12, 1 + int(dice.expovariate(0.5)))):
        if not made:
            break
        _change(made, others, dice)
    return bytes(made)


def _change(made: bytearray, others: Sequence[bytes], dice: random.Random) -> None:
    at = dice.randrange(len(made))
    if dice.random() < 0.3:  # heads of files hold what the rest hangs on
        at = dice.randrange(min(len(made), 512))
    size = min(len(made) - at, 1 + int(dice.expovariate(0.05)))
    what = dice.randrange(9)
    if what == 0:
        made[at] ^= 1 << dice.randrange(8)
    elif what == 1:
        made[at] = dice.randrange(256)
    elif what in (2, 3):
        number = dice.choice(INTERESTING) + dice.choice((-1, 0, 0, 1))
        width = dice.choice("BHIQ")
        packed = struct.pack(dice.choice("<>") + width, number % (1 << 8 * struct.calcsize(width)))
        made[at : at + len(packed)] = packed
    elif what == 4:
        del made[at : at + size]
    elif what == 5:
        made[at:at] = made[at : at + size]
    elif what == 6:
        other = dice.choice(others)
        start = dice.randrange(len(other))
        made[at : at + size] = other[start : start + size]
    elif what == 7:
        made[at : at + size] = bytes([dice.choice((0, 255, 65))]) * size
    elif dice.random() < 0.5:
        del made[at:]
    else:
        start = dice.randrange(len(made))
        made[at : at + size] = made[start : start + size]
