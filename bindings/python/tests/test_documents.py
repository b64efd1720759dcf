"""The snippets of the documents, and the example for type checkers, run as they stand."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

HERE = ROOT / "bindings" / "python"
DOCUMENTS = (HERE / "README.md", ROOT / "docs" / "migration" / "python.md")


def snippets(document: Path) -> list[tuple[int, str]]:
    text = document.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start()) + 2, match[1]) for match in found]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_snippets_run(document: Path, tmp_path: Path) -> None:
    found = snippets(document)
    assert len(found) >= 4
    for line, snippet in found:
        # Each for itself, in a fresh interpreter, with the line numbers of the document.
        script = tmp_path / "snippet.py"
        script.write_text("\n" * (line - 1) + snippet, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, timeout=60, cwd=tmp_path
        )
        assert done.returncode == 0, f"{document}:{line}\n{snippet}\n{done.stderr}"


def test_the_readme_begins_with_five_lines_that_work() -> None:
    _, first = snippets(DOCUMENTS[0])[0]
    assert len(first.strip().splitlines()) <= 5
    assert "is_allowed" in first


def test_every_option_is_documented() -> None:
    text = DOCUMENTS[0].read_text(encoding="utf-8")
    stub = (HERE / "python" / "ratelimit" / "_native.pyi").read_text(encoding="utf-8")
    options = re.search(r"class _Options.*?(?=\n\S)", stub, re.DOTALL)
    assert options is not None
    names = re.findall(r"^    (\w+):", options[0], re.MULTILINE)
    assert len(names) >= 12
    for name in ("rate_limit", "time_window", *names):
        assert f"`{name}`" in text, name


def test_the_stub_has_every_option_of_the_crate() -> None:
    import ratelimit

    stub = (HERE / "python" / "ratelimit" / "_native.pyi").read_text(encoding="utf-8")
    with pytest.raises(ratelimit.OptionError) as caught:
        ratelimit.Limiter("1/s", there_is_none_like_it=1)  # type: ignore[call-arg]
    listed = str(caught.value).partition("the options are ")[2].split(", ")
    assert len(listed) >= 12
    for name in listed:
        assert re.search(rf"^\s+{name}: ", stub, re.MULTILINE), name


def test_the_example_for_type_checkers_runs() -> None:
    runpy.run_path(str(HERE / "examples" / "typed.py"))
