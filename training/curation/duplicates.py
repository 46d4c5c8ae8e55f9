"""What was said before: the same words, or nearly, whatever their case, accents and punctuation.

Always: of several the first stays, so an order in time keeps what others copied. Near ones by MinHash over shingles of
five characters in bands, each candidate then compared exactly (Broder 1997; Leskovec, Rajaraman, Ullman, ch. 3): 16
bands of 4 rows find a pair of Jaccard similarity 0.85 with probability 0.99999.
"""

import re
import unicodedata
from typing import Any, Literal

import numpy as np

_SHINGLE = 5
_BANDS, _ROWS = 16, 4
_MAX_BUCKET = 50  # candidates compared; more alike but not duplicates are not worth the time
_SEED = 20240229
_BLOCK = 4096  # shingles hashed at once
_BASE = np.uint64(0x9E3779B97F4A7C15)
_PUNCTUATION = re.compile(r"[\W_]+")

Array = np.ndarray[Any, np.dtype[Any]]


def plain(text: str) -> str:
    """Letters and digits alone, single spaces between, without case and accents."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    return _PUNCTUATION.sub(" ", "".join(c for c in folded if not unicodedata.combining(c))).strip()


class Seen:
    """The texts that stayed; `near` is the Jaccard similarity from which one counts as seen."""

    def __init__(self, near: float) -> None:
        self.near = near
        self._exact: set[str] = set()
        self._shingles: list[Array] = []
        self._buckets: list[dict[bytes, list[int]]] = [{} for _ in range(_BANDS)]
        rng = np.random.default_rng(_SEED)
        self._factors = rng.integers(1, 2**64, _BANDS * _ROWS, dtype=np.uint64) | np.uint64(1)
        self._offsets = rng.integers(0, 2**64, _BANDS * _ROWS, dtype=np.uint64)

    def check(self, *parts: str) -> Literal["duplicates", "near_duplicates"] | None:
        """How parts of a text (message, reply) were seen before; if they were not, they are from now on."""
        text = "\n".join(map(plain, parts))
        if text in self._exact:
            return "duplicates"
        shingles = _shingles(text)
        keys = self._keys(shingles)
        candidates = {n for bucket, key in zip(self._buckets, keys, strict=True) for n in bucket.get(key, ())}
        if any(_jaccard(shingles, self._shingles[n]) >= self.near for n in candidates):
            return "near_duplicates"
        self._exact.add(text)
        self._shingles.append(shingles)
        for bucket, key in zip(self._buckets, keys, strict=True):
            there = bucket.setdefault(key, [])
            if len(there) < _MAX_BUCKET:
                there.append(len(self._shingles) - 1)
        return None

    def _keys(self, shingles: Array) -> list[bytes]:
        """The least hash of the shingles under each function, in bands."""
        least = np.full(len(self._factors), 2**32 - 1, dtype=np.uint64)
        for block in np.array_split(shingles, len(shingles) // _BLOCK + 1):
            hashes = (block * self._factors[:, None] + self._offsets[:, None]) >> np.uint64(32)  # (bands * rows, block)
            least = np.minimum(least, hashes.min(axis=1))
        return [band.tobytes() for band in least.reshape(_BANDS, _ROWS)]


def _shingles(text: str) -> Array:
    """Hashes of each five characters in a row, sorted, each once; of a shorter text one."""
    codes = np.frombuffer(text.ljust(_SHINGLE).encode("utf-32-le", errors="replace"), dtype=np.uint32).astype(np.uint64)
    num = len(codes) - _SHINGLE + 1
    hashes = np.zeros(num, dtype=np.uint64)
    for i in range(_SHINGLE):
        hashes = (hashes + codes[i : i + num]) * _BASE
        hashes ^= hashes >> np.uint64(29)
    return np.unique(hashes)


def _jaccard(a: Array, b: Array) -> float:
    if min(len(a), len(b)) == 0:
        return 0.0
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)
