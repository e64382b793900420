"""Wheel tags: `packaging.tags` is the oracle."""

from __future__ import annotations

import sys
import sysconfig
from unittest import mock

import pytest
from driftcheck.probes import wheel_tags
from packaging import tags


def expanded(compact: dict[str, list[str]]) -> set[str]:
    """The full set that the two lists of a snapshot stand for."""
    full = {f"{first}-{last}" for first in compact["interpreters"] for last in compact["platforms"]}
    return full | {f"{first}-any" for first in compact["interpreters"] if first.endswith("-none")}


def test_this_interpreter_accepts_what_packaging_says() -> None:
    libc, version = wheel_tags.libc_of_process()
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    ours = expanded(wheel_tags.supported(libc, version, free_threaded))
    assert set(map(str, tags.sys_tags())) - ours == set()
    # Of the ABI-less tags, older versions of packaging leave out one (cp310-none-any).
    extra = {tag for tag in ours - set(map(str, tags.sys_tags())) if not tag.endswith("-none-any")}
    assert extra == set()


@pytest.mark.parametrize(
    ("version", "abi", "free_threaded"),
    [
        ((3, 11), "cp311", False),
        ((3, 13), "cp313t", True),
        ((3, 12), "cp312d", False),
        ((3, 9), "cp39", False),
    ],
)
def test_cpython(version: tuple[int, int], abi: str, free_threaded: bool) -> None:
    ours = set(wheel_tags.cpython(version, abi, free_threaded)) | set(wheel_tags.pure(version))
    abis = [abi] + ([abi[:-1]] if abi.endswith("d") else [])
    theirs = {
        f"{tag.interpreter}-{tag.abi}"
        for found in (
            tags.cpython_tags(version, abis, ["linux_x86_64"]),
            tags.compatible_tags(version, f"cp{version[0]}{version[1]}", ["linux_x86_64"]),
        )
        for tag in found
        if tag.platform != "any"
    }
    assert theirs == ours


@pytest.mark.parametrize(
    ("version", "machine"),
    [((14, 0), "arm64"), ((26, 1), "arm64"), ((11, 0), "x86_64"), ((10, 15), "x86_64"), ((10, 3), "x86_64")],
)
def test_macos(version: tuple[int, int], machine: str) -> None:
    assert wheel_tags.macos(version, machine) == list(tags.mac_platforms(version, machine))


@pytest.mark.parametrize("platform", ["win-amd64", "win32", "win-arm64"])
def test_windows(platform: str) -> None:
    assert wheel_tags.platforms(platform, is_64bit=True, libc=None, libc_version=None) == [platform.replace("-", "_")]


def test_musl() -> None:
    found = wheel_tags.platforms("linux-aarch64", True, "musl", "1.2.4")
    assert found == [
        "musllinux_1_2_aarch64",
        "musllinux_1_1_aarch64",
        "musllinux_1_0_aarch64",
        "linux_aarch64",
    ]


def test_a_32_bit_interpreter_on_a_64_bit_kernel() -> None:
    found = wheel_tags.platforms("linux-x86_64", False, "glibc", "2.17")
    assert found[:2] == ["manylinux_2_17_i686", "manylinux2014_i686"]
    assert found[-2:] == ["manylinux1_i686", "linux_i686"]


def test_a_libc_that_nobody_knows_takes_plain_wheels_only() -> None:
    assert wheel_tags.platforms("linux-x86_64", True, None, None) == ["linux_x86_64"]


def test_the_libc_of_this_process() -> None:
    libc, version = wheel_tags.libc_of_process()
    if not sys.platform.startswith("linux"):
        assert libc is None
        return
    assert libc in {"glibc", "musl"}
    assert version


def test_confstr_may_say_more_than_the_version() -> None:
    with (
        mock.patch("os.confstr", return_value="glibc 2.35-ubuntu", create=True),
        mock.patch("sys.platform", "linux"),
    ):
        assert wheel_tags.libc_of_process() == ("glibc", "2.35-ubuntu")
