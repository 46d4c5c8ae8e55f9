"""The registry: what serves is one state after the other, and nothing that may not serve gets there."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.training.registry.conftest import Add, write_files
from training.errors import RegistryError
from training.registry import Lineage, Registry, base_hash
from training.registry.entry import LINEAGE, PEFT_FILES

ROOT = Path(__file__).parents[3]
REFUSED = {"promote": False, "reasons": ["a tie on the held-out people"]}


def state(registry: Registry) -> tuple[str | None, str | None, float]:
    pointer = registry.serving()
    return pointer.adapter, pointer.candidate, pointer.share


def test_importing_the_registry_imports_no_torch() -> None:
    """A bot that only replies through another server, and `--help`, would load it for nothing."""
    code = (
        "import sys, training.registry.forgotten, training.registry.canary; print({'torch', 'numpy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "set()\n"


def test_an_empty_registry_serves_the_bare_base(registry: Registry) -> None:
    assert registry.list() == []
    assert state(registry) == (None, None, 0.0)
    with pytest.raises(RegistryError, match="nothing to go back to"):
        registry.rollback()


def test_what_is_added_comes_back_with_its_lineage_and_plain_peft_files(registry: Registry, tmp_path: Path) -> None:
    lineage = Lineage(
        base_hash="b" * 64,
        data_hash="d" * 64,
        code_version="0.1.0",
        row_ids=(3, 5),
        hyper_parameters={"rank": 8, "targets": ["q_proj"]},
        metrics={"held_out": {"loss": 1.25}},
        verdict={"promote": True, "reasons": ["better"]},
        created_at=datetime(2026, 11, 21, 10, 30, tzinfo=UTC),
    )
    adapter_id = registry.add(write_files(tmp_path / "made", "x"), lineage)
    assert adapter_id.startswith("20261121-103000-")
    [entry] = registry.list()
    assert entry.lineage == lineage
    assert entry == registry.get(adapter_id)
    for name in PEFT_FILES:
        assert (entry.folder / name).read_bytes() == (tmp_path / "made" / name).read_bytes()


def test_adding_the_same_again_changes_nothing_and_another_under_its_id_is_refused(
    registry: Registry, add: Add, tmp_path: Path
) -> None:
    """A run that is resumed after a kill adds its adapter once more."""
    add("a")
    entry = registry.get("a")
    assert add("a") == "a"
    assert registry.get("a") == entry
    with pytest.raises(RegistryError, match="another adapter a"):
        registry.add(write_files(tmp_path / "other", "other"), entry.lineage, "a")


def test_a_child_answers_for_its_parents_rows_too(registry: Registry, add: Add) -> None:
    """Continued training on fewer rows would otherwise wash off a forgotten one."""
    add("parent", row_ids=(1, 2))
    add("child", row_ids=(2, 9), parent="parent")
    registry.delete("parent")
    assert registry.get("child").lineage.row_ids == (1, 2, 9)


def test_promote_and_roll_back_walk_the_same_way(registry: Registry, add: Add) -> None:
    for name in ("a", "b", "c"):
        add(name)
        registry.promote(name)
    assert state(registry)[0] == "c"
    served = [registry.rollback().adapter for _ in range(3)]
    assert served == ["b", "a", None]
    with pytest.raises(RegistryError, match="nothing to go back to"):
        registry.rollback()
    assert [line.what for line in registry.changes()] == ["promote"] * 3 + ["rollback"] * 3
    assert [line.serial for line in registry.changes()] == list(range(1, 7))


def test_promoting_what_serves_changes_nothing(registry: Registry, add: Add) -> None:
    add("a")
    pointer = registry.promote("a")
    assert registry.promote("a") == pointer == registry.serving()
    assert registry.rollback().adapter is None


def test_a_trial_begins_and_ends_without_touching_what_serves(registry: Registry, add: Add) -> None:
    add("a")
    add("b")
    registry.promote("a")
    registry.start_share("b", 0.1)
    assert state(registry) == ("a", "b", 0.1)
    assert registry.start_share("b", 0.1).serial == registry.serving().serial == 2
    assert registry.stop_share(candidate="another").candidate == "b"
    registry.rollback()
    assert state(registry) == ("a", None, 0.0)
    registry.start_share("b", 0.5)
    registry.promote("b")
    assert state(registry) == ("b", None, 0.0)
    assert registry.rollback().adapter == "a"
    for share in (0.0, 1.0, -1.0, 7.0):
        with pytest.raises(RegistryError, match="expected a number above 0 and below 1"):
            registry.start_share("b", share)
    with pytest.raises(RegistryError, match="serves all chats already"):
        registry.start_share("a", 0.5)


def test_what_the_gate_refused_serves_only_by_force_which_leaves_a_trace(registry: Registry, add: Add) -> None:
    add("a", verdict=REFUSED)
    for change in (registry.promote, lambda name: registry.start_share(name, 0.1)):
        with pytest.raises(RegistryError, match="a tie on the held-out people"):
            change("a")
    assert state(registry)[0] is None
    registry.promote("a", forced=True, reasons=("asked for",))
    [line] = registry.changes()
    assert line.forced
    assert line.reasons == ("asked for", "a tie on the held-out people")


def test_an_adapter_for_another_base_is_refused_in_one_line(registry: Registry, add: Add) -> None:
    add("a", base_hash="a1" * 32)
    with pytest.raises(RegistryError, match="made for the base a1a1a1a1a1a1, and the model here is b2b2") as caught:
        registry.promote("a", base="b2" * 32)
    assert "\n" not in str(caught.value)
    assert registry.promote("a", base="a1" * 32).adapter == "a"


def test_damaged_weights_are_refused(registry: Registry, add: Add) -> None:
    add("a")
    path = registry.root / "a" / PEFT_FILES[1]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(RegistryError, match="missing or damaged"):
        registry.promote("a")


def test_what_serves_is_not_deleted_and_what_is_deleted_is_not_gone_back_to(registry: Registry, add: Add) -> None:
    for name in ("a", "b", "c"):
        add(name)
    registry.promote("a")
    registry.promote("b")
    registry.start_share("c", 0.2)
    with pytest.raises(RegistryError, match="b is in service: promote another one"):
        registry.delete("b")
    with pytest.raises(RegistryError, match="c is on trial with 20 % of the chats: end it with `tertulia adapters"):
        registry.delete("c")
    registry.stop_share()
    registry.delete("a")
    assert [entry.id for entry in registry.list()] == ["b", "c"]
    assert registry.rollback().adapter is None
    assert sorted(path.name for path in registry.root.iterdir() if path.is_dir()) == ["b", "c"]
    with pytest.raises(RegistryError, match="no adapter a"):
        registry.delete("a")


def test_a_retired_adapter_leaves_service_for_what_served_before_and_never_comes_back(
    registry: Registry, add: Add
) -> None:
    for name in ("a", "b", "c"):
        add(name)
        registry.promote(name)
    assert registry.mark_forgotten("b", 2, retire=True)
    assert state(registry)[0] == "c"
    assert registry.mark_forgotten("c", 1, retire=True)
    assert state(registry)[0] == "a"
    assert not registry.mark_forgotten("c", 1, retire=True)
    for name in ("b", "c"):
        with pytest.raises(RegistryError, match="is retired"):
            registry.promote(name, forced=True)
    assert registry.rollback().adapter is None


def test_a_retired_candidate_leaves_its_trial(registry: Registry, add: Add) -> None:
    add("a")
    add("b")
    registry.promote("a")
    registry.start_share("b", 0.3)
    registry.mark_forgotten("b", 1, retire=True)
    assert state(registry) == ("a", None, 0.0)


def test_a_mark_stays_with_the_largest_number_and_can_become_a_retirement(registry: Registry, add: Add) -> None:
    """Somebody who consents again does not make undone what was learnt before."""
    add("a")
    registry.promote("a")
    assert registry.mark_forgotten("a", 4, retire=False)
    assert not registry.mark_forgotten("a", 3, retire=False)
    mark = registry.get("a").forgotten
    assert mark is not None
    assert (mark.num_rows, mark.retired) == (4, False)
    assert state(registry)[0] == "a"
    registry.mark_forgotten("a", 0, retire=True)
    assert state(registry)[0] is None


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".hidden", "base", "ñ", "a" * 65, "a b"])
def test_no_id_leads_out_of_the_folder(registry: Registry, add: Add, name: str) -> None:
    with pytest.raises(RegistryError, match="no id of an adapter"):
        registry.get(name)
    with pytest.raises(RegistryError, match="no id of an adapter"):
        registry.delete(name)


def test_a_folder_without_safetensors_is_no_adapter(registry: Registry, tmp_path: Path) -> None:
    folder = write_files(tmp_path / "made", "x")
    (folder / PEFT_FILES[1]).rename(folder / "adapter_model.bin")
    with pytest.raises(RegistryError, match=r"adapter_model\.safetensors is missing"):
        registry.add(folder, Lineage("b", "d", "0"), "a")
    assert registry.list() == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"lineage": {}}', '{"lineage": {"base_hash": "b"}, "files": {"../x": "y"}}']
)
def test_a_broken_lineage_is_named_with_the_way_out(registry: Registry, add: Add, text: str) -> None:
    add("a")
    (registry.root / "a" / LINEAGE).write_text(text)
    with pytest.raises(RegistryError, match="tertulia adapters delete a") as caught:
        registry.list()
    assert "\n" not in str(caught.value)
    registry.delete("a")
    assert registry.list() == []


@pytest.mark.parametrize(
    "change", [{"share": 2}, {"share": 0.5}, {"adapter": 3}, {"since": "yesterday"}, {"serial": None}, {"before": 1}]
)
def test_a_pointer_that_was_edited_wrongly_is_refused(registry: Registry, add: Add, change: dict[str, object]) -> None:
    add("a")
    registry.promote("a")
    fields = json.loads(registry.pointer_file.read_text())
    registry.pointer_file.write_text(json.dumps(fields | change))
    with pytest.raises(RegistryError, match="cannot be read"):
        registry.serving()


def test_the_bases_hash_is_that_of_what_computes_not_of_its_description(tmp_path: Path) -> None:
    files = {"config.json": "1", "model.safetensors": "2", "tokenizer.model": "3", "MODEL_CARD.md": "4"}

    def hash_with(**changed: str) -> str:
        entries = {name: {"sha256": digest} for name, digest in (files | changed).items()}
        (tmp_path / "manifest.json").write_text(json.dumps({"files": entries}))
        return base_hash(tmp_path)

    whole = hash_with()
    assert hash_with(**{"MODEL_CARD.md": "5", "generation_config.json": "6"}) == whole
    for name in ("config.json", "model.safetensors", "tokenizer.model"):
        assert hash_with(**{name: "9"}) != whole
    with pytest.raises(RegistryError, match="not a native checkpoint"):
        base_hash(tmp_path / "none")
