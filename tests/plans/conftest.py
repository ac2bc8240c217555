from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from orchestrator.domain.errors import InvalidPlan
from orchestrator.plans import load


@pytest.fixture(params=["libyaml", "pure"])
def parser(request, monkeypatch):
    if request.param == "pure":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    elif not yaml.__with_libyaml__:
        pytest.skip("this PyYAML has no libyaml")
    return request.param


@pytest.fixture
def write(tmp_path):
    def _write(content: str | bytes, name: str = "plan.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write


@pytest.fixture
def refused():
    """Load and give the problems as (file name, line, field, message), all of them."""

    def _refused(*paths: Path, **options) -> list[tuple[str, int | None, str, str]]:
        with pytest.raises(InvalidPlan) as caught:
            load(paths, **options)
        error = caught.value
        assert error.exit_code == 2
        assert error.hint
        assert str(error).encode()  # printable
        listed = error.details["problems"]
        assert error.details["count"] >= len(listed) > 0
        return [(Path(one["file"]).name, one["line"], one["field"], one["message"]) for one in listed]

    return _refused
