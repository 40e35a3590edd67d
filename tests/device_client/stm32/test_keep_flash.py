"""The firmware's log of sequences, on a flash of this machine's memory that can lose its power at any write."""

from __future__ import annotations

import ctypes
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.device_client.stm32.conftest import LIBRARY, WARNINGS, need

SECTOR_WORDS, STORAGE = 32768, 7

FLASH = """
#include "flash.h"
uint32_t memory[FLASH_SECTORS][FLASH_SECTOR_WORDS];
int32_t power = -1;      /* operations left; negative: any number */
uint32_t torn = 0;       /* bits that the last, interrupted write does not reach */
const volatile uint32_t *flash_sector(unsigned sector) { return memory[sector]; }
static bool has_power(void) { return power < 0 || power-- > 0; }
bool flash_erase(unsigned sector)
{
    if (!has_power()) return false;
    for (uint32_t word = 0; word < FLASH_SECTOR_WORDS; word++) memory[sector][word] = 0xffffffffu;
    return true;
}
bool flash_write(const volatile uint32_t *at, uint32_t word)
{
    const bool whole = power != 0;
    if (power == 0) { *(volatile uint32_t *)(uintptr_t)at &= word | torn; return false; }
    (void)has_power();
    *(volatile uint32_t *)(uintptr_t)at &= word;
    return whole;
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keep")
    (folder / "flash.c").write_text(FLASH)
    firmware = LIBRARY / "firmware"
    command = [need("gcc"), *WARNINGS, "-shared", "-fPIC", f"-I{LIBRARY / 'include'}", f"-I{firmware}"]
    subprocess.run([*command, str(firmware / "keep_flash.c"), str(folder / "flash.c"), "-o", str(folder / "keep.so")], check=True)
    return ctypes.CDLL(str(folder / "keep.so"))


class Flash:
    """An erased flash and what was stored in it."""

    def __init__(self, library):
        self._library = library
        self.words = (ctypes.c_uint32 * (2 * SECTOR_WORDS)).in_dll(library, "memory")
        ctypes.memset(self.words, 255, ctypes.sizeof(self.words))
        self.cut(-1)

    def cut(self, operations: int, torn: int = 0) -> None:
        """Power for so many more operations; negative for good."""
        ctypes.c_int32.in_dll(self._library, "power").value = operations
        ctypes.c_uint32.in_dll(self._library, "torn").value = torn

    def store(self, number: int) -> int:
        return self._library.keep_store(None, number)

    def load(self) -> int:
        return self._library.keep_load()


def test_a_new_device_begins_at_0_and_goes_on_where_it_was(library):
    flash = Flash(library)
    assert flash.load() == 0
    for number in (256, 512, 2**28):
        assert flash.store(number) == 0 and flash.load() == number


def test_full_sectors_take_turns(library):
    flash = Flash(library)
    for step in range(1, 5):
        current = (step - 1) % 2
        # All but the last record of the sector in use, as if written one by one.
        for record in range(1, SECTOR_WORDS // 2):
            place = current * SECTOR_WORDS + 2 * record
            if step > 1 or record > 0:
                number = step * 100_000 + record
                flash.words[place], flash.words[place + 1] = number, 0xFFFFFFFF ^ number
        before = flash.load()
        flash.cut(1)  # power fails between the erasure and the record
        assert flash.store(before + 256) == STORAGE and flash.load() == before
        flash.cut(-1)
        assert flash.store(before + 256) == 0 and flash.load() == before + 256


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 2**32 - 1)), max_size=12))
def test_what_was_said_to_be_kept_is_never_lost(library, cuts):
    """Whatever a loss of power leaves behind, the number is the last one that was kept, or the one being written."""
    flash, kept, number = Flash(library), 0, 0
    for operations, torn in cuts:
        number += 256
        flash.cut(operations, torn)
        if flash.store(number) == 0:
            kept = number
        flash.cut(-1)
        assert kept <= flash.load() <= number
