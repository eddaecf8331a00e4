"""PNG pictures, read far enough to know what colours are in them (W3C PNG, third edition)."""

import zlib

_HEAD = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 6: 4}


def colours(picture: bytes) -> set[bytes]:
    """Give each colour that a picture of 8 bits a channel has."""
    assert picture.startswith(_HEAD), "no PNG"
    chunks = dict[bytes, bytes]()
    at = len(_HEAD)
    while at < len(picture):
        size = int.from_bytes(picture[at : at + 4])
        kind = picture[at + 4 : at + 8]
        chunks[kind] = chunks.get(kind, b"") + picture[at + 8 : at + 8 + size]
        at += size + 12
    width, depth, kind_of_colour = int.from_bytes(chunks[b"IHDR"][:4]), chunks[b"IHDR"][8], chunks[b"IHDR"][9]
    assert (depth, chunks[b"IHDR"][12]) == (8, 0), "more than 8 bits a channel, or interlaced"
    step = _CHANNELS[kind_of_colour]
    return _of_lines(zlib.decompress(chunks[b"IDAT"]), width * step, step)


def _of_lines(raw: bytes, line_bytes: int, step: int) -> set[bytes]:
    found: set[bytes] = set()
    above = bytes(line_bytes)
    for at in range(0, len(raw), line_bytes + 1):
        line = _unfiltered(raw[at], raw[at + 1 : at + 1 + line_bytes], above, step)
        if line != above:
            found |= {line[pixel : pixel + step] for pixel in range(0, line_bytes, step)}
        above = line
    return found


def _unfiltered(kind: int, filtered: bytes, above: bytes, step: int) -> bytes:
    if kind == 0 or (kind == 2 and not any(filtered)):
        return filtered if kind == 0 else above
    line = bytearray(filtered)
    for at, value in enumerate(filtered):
        left = line[at - step] if at >= step else 0
        corner = above[at - step] if at >= step else 0
        line[at] = (value + _predicted(kind, left, above[at], corner)) & 255
    return bytes(line)


def _predicted(kind: int, left: int, up: int, corner: int) -> int:
    match kind:
        case 1:
            return left
        case 2:
            return up
        case 3:
            return (left + up) // 2
    guess = left + up - corner
    return min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
