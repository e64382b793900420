"""The reader of rpm's own kind of database, against a real one that was cut, bent and scrambled."""

import io
import random
import struct

import pytest
from driftcheck.probes import rpm_ndb
from support.rpm_databases import EXPECTED, fixture, found_in

# Offsets in a slot, after its magic.
NUMBER, FIRST, COUNT = 4, 8, 12


@pytest.fixture
def whole() -> bytes:
    return fixture("ndb")


def read(data: bytes) -> tuple[set[str], list[str]]:
    return found_in(rpm_ndb, data)


def slots(data: bytes) -> list[int]:
    """Where the slots in use stand, in the order in which their packages lie in the file."""
    used = [at for at in range(32, 4096, 16) if number(data, at + FIRST)]
    return sorted(used, key=lambda at: number(data, at + FIRST))


def number(data: bytes, at: int) -> int:
    (value,) = struct.unpack_from("<I", data, at)
    return int(value)


def changed(data: bytes, *numbers: tuple[int, int]) -> bytes:
    """With these numbers (where, which) put into it."""
    copy = bytearray(data)
    for at, value in numbers:
        struct.pack_into("<I", copy, at, value)
    return bytes(copy)


def test_whole(whole: bytes) -> None:
    assert read(whole) == (EXPECTED, [])


def test_a_gap_is_where_a_package_was_removed(whole: bytes) -> None:
    """The fixture is what it is for."""
    lies = [(number(whole, at + FIRST), number(whole, at + COUNT)) for at in slots(whole)]
    assert sum(count for _, count in lies) * 16 < len(whole) - 4096


def test_cut_anywhere(whole: bytes) -> None:
    for length in range(0, len(whole), 1501):
        try:
            packages, broken = read(whole[:length])
        except ValueError as error:
            assert "cut" in str(error) or "too few" in str(error)  # noqa: PT017 -- one of two outcomes
            continue
        # Behind the last package there may be room.
        assert packages <= EXPECTED
        assert len(packages) + len(broken) == len(EXPECTED)


def test_scrambled(whole: bytes) -> None:
    chance = random.Random(7)
    starts = [0, *slots(whole), *(number(whole, at + FIRST) * 16 for at in slots(whole))]
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.choice(starts) + chance.randrange(32)] = chance.choice([0, 1, 255, chance.randrange(256)])
        try:
            packages, broken = read(bytes(data))
        except ValueError as error:
            assert str(error)  # noqa: PT017 -- one of two outcomes
            continue
        assert len(packages) + len(broken) <= len(EXPECTED) + 4


def test_packages_that_lie_upon_each_other(whole: bytes) -> None:
    first, second = slots(whole)[:2]
    bent = changed(whole, *((second + field, number(whole, first + field)) for field in (NUMBER, FIRST, COUNT)))
    packages, broken = read(bent)
    assert len(packages) == 6
    assert broken == [f"package {number(whole, first + NUMBER)} lies where another one does"]


def test_slots_that_cannot_be(whole: bytes) -> None:
    slot = slots(whole)[2]
    package = number(whole, slot + NUMBER)
    for field, value, reason in (
        (FIRST, 0xFFFFFFFF, f"package {package} lies behind the end of the file"),
        (COUNT, 0xFFFFFFFF, f"package {package} lies behind the end of the file"),
        (COUNT, 0, f"package {package} states 0 bytes"),
        (COUNT, 1, f"package {package} states 16 bytes"),
        (COUNT, number(whole, slot + COUNT) - 1, f"package {package} is not where its slot says"),
        (NUMBER, 77, "package 77 is not where its slot says"),
    ):
        packages, broken = read(changed(whole, (slot + field, value)))
        assert reason in broken
        assert packages < EXPECTED
    with pytest.raises(ValueError, match=f"^package {package} lies where the slots do$"):
        read(changed(whole, (slot + FIRST, 255)))
    with pytest.raises(ValueError, match=r"^a slot without its magic$"):
        read(changed(whole, (slot, 0)))


def test_a_header_longer_than_is_looked_at(whole: bytes) -> None:
    largest = max(slots(whole), key=lambda at: number(whole, at + COUNT))
    size = number(whole, largest + COUNT) * 16
    results = list(rpm_ndb.headers(io.BytesIO(whole), len(whole), size - 16))
    assert [reason for blob, reason in results if blob is None] == [
        f"package {number(whole, largest + NUMBER)} states {size} bytes"
    ]


def test_lengths_that_contradict_each_other(whole: bytes) -> None:
    slot = slots(whole)[0]
    package, start = number(whole, slot + NUMBER), number(whole, slot + FIRST) * 16
    end = start + number(whole, slot + COUNT) * 16
    for at in (start + 12, end - 8):
        for value in (0, number(whole, at) + 1, 0xFFFFFFFF):
            assert read(changed(whole, (at, value)))[1] == [f"package {package} states two lengths"]
    assert read(changed(whole, (start + 12, 0), (end - 8, 0)))[1] == [f"package {package} states two lengths"]


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (0, 0, "not an rpm database of the ndb kind"),
        (4, 1, "an rpm database of the ndb kind of version 1, which is not known"),
        (12, 0, "0 pages of slots"),
        (12, 0xFFFFFFFF, "4294967295 pages of slots"),
        (12, 300, "cut, or broken: 300 pages of slots in "),
    ],
)
def test_no_database_as_a_whole(whole: bytes, at: int, value: int, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}"):
        read(changed(whole, (at, value)))
