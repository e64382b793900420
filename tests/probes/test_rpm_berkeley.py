"""The reader of Berkeley DB's hash tables, against real ones that were cut, bent and scrambled."""

import random
import struct

import pytest
from driftcheck.probes import rpm_berkeley
from support.rpm_databases import EXPECTED, LIMIT, fixture, found_in


@pytest.fixture(params=["berkeley", "big-endian"])
def database(request: pytest.FixtureRequest) -> "Database":
    return Database(fixture(request.param))


class Database:
    """A real file whose numbers can be changed, by page and offset."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.order = "<" if struct.unpack_from("<I", data, 12)[0] == rpm_berkeley.MAGIC else ">"
        self.page_size = self.get(0, 20)

    def get(self, page: int, offset: int, form: str = "I") -> int:
        (value,) = struct.unpack_from(self.order + form, self.data, (page and page * self.page_size) + offset)
        return int(value)

    def put(self, page: int, offset: int, value: int, form: str = "I") -> None:
        struct.pack_into(self.order + form, self.data, (page and page * self.page_size) + offset, value)

    def pages(self, kind: int) -> list[int]:
        return [page for page in range(len(self.data) // self.page_size) if self.get(page, 25, "B") == kind]

    def entries(self) -> list[tuple[int, int]]:
        """(page, offset in it) of the values that stand on overflow pages."""
        found = []
        for page in self.pages(13):
            for entry in range(1, self.get(page, 20, "H"), 2):
                offset = self.get(page, 26 + 2 * entry, "H")
                if self.get(page, offset, "B") == 3:
                    found.append((page, offset))
        return found

    def read(self) -> tuple[set[str], list[str]]:
        return read(bytes(self.data))


def read(data: bytes) -> tuple[set[str], list[str]]:
    return found_in(rpm_berkeley, data)


def test_whole(database: Database) -> None:
    assert database.read() == (EXPECTED, [])


def test_headers_stand_on_overflow_pages_and_on_hash_pages(database: Database) -> None:
    """The fixtures are what they are for: more pages than one in a row, gaps, short values, buckets never used."""
    assert len(database.pages(7)) > 1
    assert database.pages(0)
    assert (len(database.entries()), database.get(0, 72) + 1) in {(7, 2), (1, 9)}


def test_cut_anywhere(database: Database) -> None:
    whole = bytes(database.data)
    for length in range(0, len(whole), 4001):
        try:
            packages, broken = read(whole[:length])
        except ValueError as error:
            assert "cut" in str(error) or "too few" in str(error)  # noqa: PT017 -- one of two outcomes
            continue
        assert packages <= EXPECTED
        assert broken or packages == EXPECTED


def test_scrambled(database: Database) -> None:
    whole = bytes(database.data)
    chance = random.Random(7)
    # Where a flipped bit means something: the first bytes of pages that are used, and the ends of hash pages.
    starts = [page * database.page_size for page in (0, *database.pages(13), *database.pages(7))]
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            at = chance.choice(starts) + chance.choice(
                [chance.randrange(128), database.page_size - chance.randint(1, 200)]
            )
            data[at] = chance.choice([0, 1, 3, 255, chance.randrange(256)])
        try:
            packages, broken = read(bytes(data))
        except ValueError as error:
            assert str(error)  # noqa: PT017 -- one of two outcomes
            continue
        assert len(packages) + len(broken) < 100


def test_overflow_pages_that_go_round(database: Database) -> None:
    page, offset = max(database.entries(), key=lambda place: database.get(place[0], place[1] + 8))
    first = database.get(page, offset + 4)
    database.put(first, 16, first)
    packages, broken = database.read()
    assert EXPECTED - packages == {"tzdata 2024a-1.el9 noarch"}
    assert broken == [f"page {first} is linked to twice"]


def test_hash_pages_that_go_round(database: Database) -> None:
    for page in database.pages(13):
        database.put(page, 16, page)
    packages, broken = database.read()
    assert packages == EXPECTED
    assert broken
    assert set(broken) <= {f"page {page} is linked to twice" for page in database.pages(13)}


def test_pages_outside_of_the_file(database: Database) -> None:
    page, offset = database.entries()[0]
    database.put(page, offset + 4, 0xFFFFFFFF)
    packages, broken = database.read()
    assert len(packages) == 6
    assert broken == ["page 4294967295 lies behind the end of the file"]

    for splitpoint in range(32):
        database.put(0, 96 + 4 * splitpoint, 0xFFFFFFF0)
    packages, broken = database.read()
    assert packages == set()
    assert len(broken) == database.get(0, 72) + 1


def test_lengths_that_cannot_be(database: Database) -> None:
    page, offset = database.entries()[0]
    whole = database.get(page, offset + 8)
    for length, reason in (
        (0xFFFFFFFF, "a header of 4294967295 bytes"),
        (LIMIT + 1, f"a header of {LIMIT + 1} bytes"),
        (0, "not a header"),
        (1, "overflow page "),
        (whole + 1, "page 0 is linked to twice"),
    ):
        database.put(page, offset + 8, length)
        packages, broken = database.read()
        assert len(packages) == 6
        assert len(broken) == 1
        assert broken[0].startswith(reason)
    database.put(page, offset + 8, whole)
    first = database.get(page, offset + 4)
    for filled in (0, 0xFFFF):
        database.put(first, 22, filled, "H")
        assert database.read()[1] == [f"overflow page {first} states {filled} bytes where {whole} are left"]


def test_pages_of_another_kind_or_number(database: Database) -> None:
    page, offset = database.entries()[0]
    first = database.get(page, offset + 4)
    database.put(first, 25, 5, "B")
    assert database.read()[1] == [f"page {first} is of type 5, where an overflow page is due"]
    database.put(first, 8, first + 1)
    assert database.read()[1] == [f"page {first} says that it is another one"]
    database.put(page, 25, 9, "B")
    assert f"page {page} is of type 9, where a hash page is due" in database.read()[1]


def test_entries_that_cannot_be(database: Database) -> None:
    page, offset = database.entries()[0]
    count = database.get(page, 20, "H")
    for entries in (count + 1, 0xFFFE):
        database.put(page, 20, entries, "H")
        assert database.read()[1] == [f"page {page} states {entries} entries"]
    database.put(page, 20, count, "H")
    database.put(page, offset, 4, "B")
    assert database.read()[1] == [f"page {page} has an entry of kind 4, 12 bytes long"]
    database.put(page, 26, 20, "H")
    assert database.read()[1] == [f"page {page} has an entry outside of it"]


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (12, 0x053162, "not a hash table of Berkeley DB"),
        (16, 7, "a Berkeley DB hash table of version 7, which is not known"),
        (20, 0, "pages of 0 bytes, which no Berkeley DB has"),
        (20, 4095, "pages of 4095 bytes, which no Berkeley DB has"),
        (20, 1 << 17, "pages of 131072 bytes, which no Berkeley DB has"),
        (72, 0xFFFFFFFF, "cut, or broken: 4294967296 buckets in "),
    ],
)
def test_no_database_as_a_whole(database: Database, offset: int, value: int, reason: str) -> None:
    database.put(0, offset, value)
    with pytest.raises(ValueError, match=f"^{reason}"):
        database.read()


def test_encrypted_or_with_checksums(database: Database) -> None:
    for offset in (24, 26):
        database.put(0, offset, 1, "B")
        with pytest.raises(ValueError, match="encryption or checksums"):
            database.read()
        database.put(0, offset, 0, "B")
