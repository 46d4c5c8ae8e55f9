"""A frozen snapshot comes back as it went in, or is refused with the file that is not as it was."""

import dataclasses
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.conversation import Message
from tests.training.curation.conftest import dialogue, gathered, people, turn
from training.curation import Curated, curate, erase_text, read_snapshot, write_snapshot
from training.errors import DataError
from training.examples import Example, Preference

PAIR = Preference((Message("user", "¿qué\u2028tal, amigo mío?"),), "muy bien, gracias", "mal", "u", (7, 8))


@pytest.fixture
def curated() -> Curated:
    document = Example((), (), "file:a.txt:3", source="a.txt", document="Érase\nuna vez en un lugar 😀")
    return curate([gathered(*people(8, 2), dialogue([turn(90)], "z", "sé breve"), document, preferences=[PAIR])])


def test_what_was_frozen_is_read_back_whole(curated: Curated, tmp_path: Path) -> None:
    written = write_snapshot(curated, tmp_path / "run" / "data", seed=7, base="embedded")
    assert read_snapshot(tmp_path / "run" / "data") == written
    assert (written.train, written.held_out, written.preferences) == (
        curated.train,
        curated.held_out,
        curated.preferences,
    )
    assert (written.counts, written.facts) == (curated.counts, {"seed": 7, "base": "embedded"})
    assert written.row_ids == tuple(range(1, 33))
    assert {stat.S_IMODE(path.stat().st_mode) for path in written.folder.iterdir()} == {0o600}


def test_the_hash_follows_from_the_data_alone_and_from_all_of_it(curated: Curated, tmp_path: Path) -> None:
    """An adapter's lineage names its data by this hash; a resumed run compares it."""
    first = curated.train[0]
    changed = dataclasses.replace(first, trained=(False, False, *first.trained[2:]))
    others = [
        curated,
        dataclasses.replace(curated, train=(changed, *curated.train[1:])),
        dataclasses.replace(curated, train=curated.train[1:], held_out=(*curated.held_out, first)),
        dataclasses.replace(curated, preferences=()),
    ]
    hashes = [write_snapshot(one, tmp_path / str(n)).data_hash for n, one in enumerate(others)]
    assert len(set(hashes)) == len(others)
    assert write_snapshot(curated, tmp_path / "again", at="later").data_hash == hashes[0]


def test_a_snapshot_is_never_written_over(curated: Curated, tmp_path: Path) -> None:
    write_snapshot(curated, tmp_path / "data")
    with pytest.raises(DataError, match="exists and is not empty"):
        write_snapshot(curated, tmp_path / "data")


@pytest.mark.parametrize("name", ["train.jsonl", "held_out.jsonl", "preferences.jsonl"])
def test_a_file_that_was_altered_or_is_missing_is_named(curated: Curated, tmp_path: Path, name: str) -> None:
    folder = write_snapshot(curated, tmp_path / "data").folder
    with (folder / name).open("a", encoding="utf-8") as file:
        file.write(" ")
    with pytest.raises(DataError, match=f"{name} was altered"):
        read_snapshot(folder)
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        read_snapshot(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda values: values.update(data_hash="0" * 64), "data_hash is not that of its files"),
        (lambda values: values.update(version=2), "version is 2, this program reads 1"),
        (lambda values: values.update(format="x"), "is no manifest"),
        (lambda values: values.pop("row_ids"), "is no manifest"),
    ],
)
def test_a_foreign_manifest_is_refused(
    curated: Curated, tmp_path: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    path = write_snapshot(curated, tmp_path / "data").folder / "manifest.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(DataError, match=words):
        read_snapshot(path.parent)


def test_a_folder_without_a_manifest_is_not_a_snapshot(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest.json cannot be read"):
        read_snapshot(tmp_path)
    (tmp_path / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="is not JSON"):
        read_snapshot(tmp_path)


def test_erased_texts_are_gone_and_the_rows_stay_known(curated: Curated, tmp_path: Path) -> None:
    """A person who is forgotten must not live on in the folder of an old run."""
    folder = write_snapshot(curated, tmp_path / "data").folder
    erase_text(folder)
    erase_text(folder)  # a second time, as after a kill in between
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]
    manifest = (folder / "manifest.json").read_text(encoding="utf-8")
    assert curated.train[0].messages[0].content not in manifest
    assert json.loads(manifest)["row_ids"] == list(range(1, 33))
    with pytest.raises(DataError, match="was erased after its run"):
        read_snapshot(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written_is_named(curated: Curated, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="cannot write"):
        write_snapshot(curated, tmp_path / "data")


def test_a_file_in_the_way_is_named(curated: Curated, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match="is a file, expected a folder"):
        write_snapshot(curated, tmp_path / "data")
