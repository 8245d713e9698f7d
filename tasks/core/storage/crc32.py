"""Combines the CRC-32 of two pieces into that of both: S3's checksum of type ``FULL_OBJECT``.

It does the same as ``crc32_combine`` of zlib, which Python does not offer: appending n bytes multiplies the
first checksum by x to the power of 8n, modulo the polynomial. Bit 31 of a number is the coefficient of x^0.
"""

import base64

_POLYNOMIAL = 0xEDB88320
_ONE, _X_TO_8 = 1 << 31, 1 << 23


def combine(first: int, second: int, second_bytes: int) -> int:
    """Checksum of two concatenated pieces.

    Args:
        first: Checksum of the first piece.
        second: Checksum of the second piece.
        second_bytes: Size of the second piece.
    """
    factor, power = _ONE, _X_TO_8
    while second_bytes:
        if second_bytes & 1:
            factor = _multiply(factor, power)
        power = _multiply(power, power)
        second_bytes >>= 1
    return _multiply(factor, first) ^ second


def encode(checksum: int) -> str:
    """Encode a checksum as S3 does, in Base64."""
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()


def decode(text: str) -> int:
    """Decode a checksum from S3's Base64."""
    return int.from_bytes(base64.b64decode(text), "big")


def _multiply(one: int, other: int) -> int:
    product = 0
    while one:
        if one & _ONE:
            product ^= other
        one = (one << 1) & 0xFFFFFFFF
        other = (other >> 1) ^ (_POLYNOMIAL if other & 1 else 0)
    return product
