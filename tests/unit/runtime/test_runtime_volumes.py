"""Volumes that are filled from images, while others write to them, and after a fill that was cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from slipway.base.process import Completed, run
from slipway.errors import Failed
from slipway.runtime.volumes import Volumes, remove_volume

RUN = "slipway.runtime.volumes.run"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What an image has: a file, a directory with one, a symlink."""
    (tmp_path / "image" / "sub").mkdir(parents=True)
    (tmp_path / "image" / "file").write_text("image's")
    (tmp_path / "image" / "sub" / "deep").write_text("image's")
    (tmp_path / "image" / "link").symlink_to("/etc/hostname")
    (tmp_path / "image").chmod(0o751)
    return tmp_path / "image"


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    return tmp_path / "volumes" / "shop_app_data"


def _is_whole(volume: Path) -> bool:
    files = {path.name for path in volume.rglob("*")} == {"file", "sub", "deep", "link"}
    alone = list(volume.parent.iterdir()) == [volume]
    return files and alone and volume.stat().st_mode & 0o777 == 0o751


async def test_it_is_filled_once(source: Path, volume: Path) -> None:
    volumes = Volumes()
    await asyncio.gather(*(volumes.fill(volume, source) for _ in range(3)))
    assert _is_whole(volume)
    assert (volume / "link").is_symlink()
    (volume / "file").write_text("mine")
    (volume / "sub" / "deep").unlink()
    await volumes.fill(volume, source)
    assert (volume / "file").read_text() == "mine"
    assert not (volume / "sub" / "deep").exists()


async def test_a_copy_that_was_cut_off_is_begun_again(
    source: Path, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(argv: Sequence[str]) -> Completed:
        Path(argv[-1]).mkdir()
        (Path(argv[-1]) / "file").write_text("ima")
        raise Failed("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(RUN, full)
        with pytest.raises(Failed):
            await Volumes().fill(volume, source)
    assert list(volume.iterdir()) == []
    await Volumes().fill(volume, source)
    assert _is_whole(volume)
    assert (volume / "file").read_text() == "image's"


async def test_a_move_that_was_cut_off_is_finished_for_whoever_comes(source: Path, volume: Path) -> None:
    volume.mkdir(parents=True)
    whole = volume.with_name(f".{volume.name}.whole")
    source.rename(whole)
    (whole / "file").rename(volume / "file")
    await Volumes().fill(volume, None)
    assert _is_whole(volume)


async def test_what_another_container_puts_there_leads_nowhere(
    source: Path, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A symlink in a volume is a container's, and what it names is the host's to us."""
    host = tmp_path / "host"
    (host / "etc").mkdir(parents=True)
    (host / "passwd").write_text("host's")

    async def meanwhile(argv: Sequence[str]) -> Completed:
        (volume / "file").symlink_to(host / "passwd")
        (volume / "sub").symlink_to(host / "etc")
        return await run(argv)

    monkeypatch.setattr(RUN, meanwhile)
    await Volumes().fill(volume, source)
    assert (host / "passwd").read_text() == "host's"
    assert list((host / "etc").iterdir()) == []
    assert (volume / "file").is_symlink()
    assert (volume / "link").is_symlink()


async def test_who_planted_something_after_a_fill_was_cut_off_gains_nothing(
    source: Path, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "passwd").write_text("host's")

    async def cut_off(argv: Sequence[str]) -> Completed:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(RUN, cut_off)
        with pytest.raises(asyncio.CancelledError):
            await Volumes().fill(volume, source)
    await Volumes().fill(volume, None)
    (volume / "file").symlink_to(tmp_path / "passwd")
    await Volumes().fill(volume, source)
    assert (tmp_path / "passwd").read_text() == "host's"


def test_what_it_was_to_be_filled_with_goes_with_it(volume: Path) -> None:
    other = volume.with_name("shop_app_data2")
    for path in (
        volume / "sub",
        other,
        *(volume.with_name(f".{volume.name}.{end}") for end in ("copy", "whole")),
    ):
        path.mkdir(parents=True)
    remove_volume(volume)
    remove_volume(volume)
    assert list(volume.parent.iterdir()) == [other]
