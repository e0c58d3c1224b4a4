"""A directory in a temporary folder, with settings to try."""

from pathlib import Path

import directory_place
import pytest

from todoku import store
from todoku.directory import Directory, Place
from todoku.settings import Settings


@pytest.fixture
def settings_for() -> directory_place.SettingsFor:
    return directory_place.settings_for


@pytest.fixture
def settings() -> Settings:
    return directory_place.settings_for()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    here = directory_place.place_in(tmp_path)
    store.migrate(here.database)
    return here


@pytest.fixture
def directory(place: Place, settings: Settings) -> Directory:
    return place.open(settings)
