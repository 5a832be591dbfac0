"""Where a FLAC stream really ends, whatever its head says. Source: RFC 9639, sections 8.2 and 9.1."""

from __future__ import annotations

_CRC8 = [0] * 256
for _byte in range(256):
    _value = _byte
    for _ in range(8):
        _value = _value << 1 ^ 0x107 if _value & 0x80 else _value << 1
    _CRC8[_byte] = _value


def is_plain(head: bytes) -> bool:
    """Whether a file starts as a FLAC stream of a known, non-zero length with a sound rate and sample size."""
    if len(head) < 42 or head[:4] != b"fLaC" or head[4] & 0x7F or head[5:8] != b"\0\0\x22":
        return False
    packed = int.from_bytes(head[18:26], "big")  # 20 bits rate, 3 channels, 5 sample size, 36 samples
    return bool(packed >> 44) and (packed >> 36 & 31) >= 3 and bool(packed & (1 << 36) - 1)


def end_of(tail: bytes, head: bytes) -> int | None:
    """Where the last frame ends, in samples, if it is of the kind that the stream's head announces."""
    place = len(tail)
    while (place := max(tail.rfind(b"\xff\xf8", 0, place), tail.rfind(b"\xff\xf9", 0, place))) >= 0:
        frame = tail[place : place + 16]
        if len(frame) < 6 or frame[3] & 1 or not frame[2] >> 4:
            continue
        ones = 8 - (frame[4] ^ 0xFF).bit_length()  # leading ones: bytes of the number, coded as UTF-8 codes letters
        at = 5 + max(0, ones - 1)
        number = frame[4] & (0x7F if ones == 0 else 0xFF >> (ones + 1))
        for byte in frame[5:at]:
            number = number << 6 | byte & 0x3F
        code = frame[2] >> 4
        n_size = {6: 1, 7: 2}.get(code, 0)
        n_samples = int.from_bytes(frame[at : at + n_size], "big") + 1
        if not n_size:
            n_samples = 192 if code == 1 else 576 << (code - 2) if code < 6 else 256 << (code - 8)
        at += n_size + {12: 1, 13: 2, 14: 2}.get(frame[2] & 15, 0)
        crc = 0
        for byte in frame[:at]:
            crc = _CRC8[crc ^ byte]
        if at < len(frame) and crc == frame[at]:
            counts_samples = frame[1] & 1  # else frames, all of one size but the last
            return number * (1 if counts_samples else int.from_bytes(head[8:10], "big")) + n_samples
    return None
