"""Fetches what a conversion reads of a hub repository: its config, its tokenizer and one set of weights.

A download goes on where it was interrupted, also by the end of the process: huggingface_hub 2.4 deletes what it has of
a file when it stops, and a published model is one file of 6 GB. Files get their names when they are complete and their
sha256 is the hub's.
"""

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from model import tokenizer_files
from model.atomic_folder import sha256
from model.errors import HubError
from model.manifest import CONFIG

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

_SAFETENSORS = re.compile(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?")
_PICKLES = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin(\.index\.json)?")
_OPTIONAL = "generation_config.json"


class UnknownName(HubError):
    """There is no such repository, or no such revision of it."""


def fetch(name: str, revision: str | None, folder: Path, *, weights: bool, endpoint: str | None = None) -> Path:
    """Download the files of one commit of `name` into a folder below `folder`, and return that.

    weights False: the tokenizer's files only. Raises HubError: no such repository, no network, a full disk.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        HTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        info = HfApi(endpoint=endpoint).model_info(name, revision=revision, files_metadata=True)
        files = {file.rfilename: file for file in info.siblings or []}
        wanted = choose_files(name, list(files), weights)
        place = folder / str(info.sha)  # what is left of another commit is never continued
        _check_space(place, sum(files[file].size or 0 for file in wanted))
        for file in wanted:
            _fetch_file(name, str(info.sha), files[file], place / file, endpoint)
        return place
    except GatedRepoError:
        raise HubError(f"{name} asks for an agreement: accept it on its page and log in with `hf auth login`") from None
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
        where = f"revision {revision!r} of {name!r}" if revision else repr(name)
        raise UnknownName(f"there is no {where} on the hub") from None
    except (HTTPError, OfflineModeIsEnabled, ConnectionError, TimeoutError) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise HubError(
            f"{name} is no folder here and cannot be downloaded ({reason}); "
            "check the network and run again (a download resumes), or give a local folder"
        ) from None
    except OSError as error:
        raise HubError(f"cannot download {name} into {folder}: {error.strerror or error}") from None


def choose_files(name: str, files: list[str], weights: bool) -> list[str]:
    """The files of a repository that a conversion reads: safetensors when there are any, else the .bin ones."""
    wanted = [file for file in files if file in tokenizer_files.FILES]
    if not weights:
        return wanted
    chosen = [file for file in files if _SAFETENSORS.fullmatch(file)]
    chosen = chosen or [file for file in files if _PICKLES.fullmatch(file)]
    if not chosen or CONFIG not in files:
        missing = CONFIG if chosen else "weights (model.safetensors or pytorch_model.bin)"
        raise HubError(f"{name} has no {missing} on the hub; it is not a GPT-J checkpoint that can be converted")
    return [file for file in (CONFIG, _OPTIONAL) if file in files] + wanted + chosen


def _fetch_file(name: str, commit: str, file: "RepoSibling", target: Path, endpoint: str | None) -> None:
    """One file, continued from `.NAME.partial` if that is there, checked and given its name."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    if target.is_file():
        return
    partial = target.with_name(f".{target.name}.partial")
    partial.touch()
    with partial.open("r+b") as opened:
        there = opened.seek(0, 2)
        if there != file.size or there == 0:
            url = hf_hub_url(name, file.rfilename, revision=commit, endpoint=endpoint)
            size = file.size
            http_get(url, opened, resume_size=there, headers=build_hf_headers(), expected_size=size)
    if file.lfs is not None and sha256(partial) != file.lfs.sha256:
        partial.unlink()
        raise HubError(f"{name}: {file.rfilename} arrived damaged, its sha256 is not the hub's; run again")
    partial.rename(target)


def _check_space(folder: Path, size_bytes: int) -> None:
    """What is there of the download counts as downloaded."""
    folder.mkdir(parents=True, exist_ok=True)
    there = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    free = shutil.disk_usage(folder).free
    if size_bytes - there > free:
        raise HubError(
            f"{folder}: the disk is full: {size_bytes - there} bytes are still to be downloaded, {free} are free; "
            "free some space"
        )
