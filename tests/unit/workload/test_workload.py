"""A workload is found by its name, and the platform knows none by heart."""

import subprocess
import sys

import pytest

from tidegate.errors import UserError
from tidegate.workload import Feature, Workload, load_workload


def test_a_workload_is_loaded_by_name():
    found = load_workload("flights.workload:flight_delay")
    assert isinstance(found, Workload)
    assert found.key == "flight_id"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("flights.workload", "package.module:object"),
        ("flights.nothing:flight_delay", "No module named"),
        ("flights.workload:nothing", "nothing"),
        ("flights.workload:LEAD", "timedelta"),
        (":x", "package.module:object"),
        ("..:x", "package.module:object"),
    ],
)
def test_a_wrong_name_is_one_clear_line(name, says):
    with pytest.raises(UserError, match=says) as caught:
        load_workload(name)
    assert "\n" not in str(caught.value)
    assert repr(name) in str(caught.value)


def test_a_module_that_does_not_import_is_the_users_fault(tmp_path, monkeypatch):
    (tmp_path / "broken_workload.py").write_text("import no_such_package_at_all\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="no_such_package_at_all"):
        load_workload("broken_workload:w")


def test_a_category_needs_its_categories():
    with pytest.raises(ValueError, match="carrier"):
        Feature("carrier", "category")
    with pytest.raises(ValueError, match="hour"):
        Feature("hour", "numeric", ("a",))


def test_loading_a_workload_imports_nothing_heavy():
    code = (
        "import sys; from tidegate.workload import load_workload; load_workload('flights.workload:flight_delay');"
        "print(sorted({'polars','pandas','feast','pandera','lightgbm'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
