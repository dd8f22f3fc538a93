"""What every page must keep to, read from the sources: the content security policy, text direction, icons, build."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest
from django.template.loader import get_template
from django.test import RequestFactory

from core.templatetags import ui
from core.views import server_error

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
#: Mail clients know no style sheets of ours: their templates carry styles of their own.
PAGES = [path for path in TEMPLATES if "email" not in path.parent.name]
SCRIPTS = sorted((ROOT / "static/js").glob("*.js"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT / "templates").as_posix()


@pytest.mark.parametrize("path", TEMPLATES, ids=name_of)
def test_every_template_compiles(path: Path) -> None:
    get_template(name_of(path))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_no_page_needs_an_exception_from_the_policy(path: Path) -> None:
    source = path.read_text("utf-8")
    assert not re.search(r"\sstyle\s*=", source), "inline style attribute"
    assert not re.search(r"<style\b", source), "inline style sheet"
    assert not re.search(r"\son[a-z]+\s*=\s*[\"']", source), "inline event handler"
    assert "javascript:" not in source
    for script in re.findall(r"<script\b[^>]*>", source):
        assert "src=" in script or 'type="application/json"' in script, script
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//(?!\{)", source), "something from another host"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_pages_mirror_in_right_to_left_scripts(path: Path) -> None:
    for classes in re.findall(r'class="([^"]*)"', path.read_text("utf-8")):
        for word in re.findall(
            r"(?<![\w-])(?:[a-z]+:)*-?(?:ml|mr|pl|pr|left|right|border-[lr]|rounded-[lr])-[\w.\[\]/]+", classes
        ):
            pytest.fail(f"{word} has a side; use its logical twin (ms-, me-, ps-, pe-, start-, end-)")
        assert not re.search(r"(?<![\w-])text-(?:left|right)(?![\w-])", classes)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_makes_code_or_markup_out_of_text(path: Path) -> None:
    source = path.read_text("utf-8")
    for word in ("eval(", "new Function", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"):
        assert word not in source
    # Pages get their parts by htmx. The playground alone calls the gateway itself, as programs do.
    assert "fetch(" not in source or path.name in ("playground.js", "playground-code.js", "playground-wire.js")


def test_the_icons_are_those_of_the_list() -> None:
    names = (ROOT / "frontend/icons.txt").read_text().split()
    assert names == sorted(set(names))
    assert set(ui.icon_shapes()) == set(names)


def test_the_chart_library_is_the_one_that_python_draws_for() -> None:
    package = json.loads((ROOT / "package.json").read_text())
    ours = package["devDependencies"]["plotly.js-basic-dist-min"]
    bundled = files("plotly").joinpath("package_data/plotly.min.js").read_text("utf-8")[:200]
    served = (ROOT / "static/vendor/plotly-basic.min.js").read_text("utf-8")[:200]
    assert f"plotly.js v{ours}\n" in bundled
    assert f"v{ours}\n" in served


def test_the_npm_lock_names_no_host() -> None:
    lock = (ROOT / "package-lock.json").read_text()
    assert "resolved" not in lock
    assert "://" not in re.sub(r'"(?:url|homepage|funding)":[^\n]*', "", lock)


def test_the_npm_lock_knows_every_platform() -> None:
    """Where a package for some system is missing from the lock, npm ci refuses on all of them."""
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    wanted = {name for package in packages.values() for name in package.get("optionalDependencies", {})}
    assert {f"node_modules/{name}" for name in wanted} <= set(packages)


def test_fonts_come_with_their_licences() -> None:
    for family in ("inter", "jetbrains-mono", "vazirmatn"):
        assert (ROOT / f"static/fonts/{family}.woff2").stat().st_size > 10_000
        assert "SIL OPEN FONT LICENSE" in (ROOT / f"static/fonts/{family}.LICENSE.txt").read_text().upper()


def test_the_committed_output_is_what_the_sources_give(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not (ROOT / "node_modules").is_dir():
        pytest.skip("no node_modules: run npm ci to compare the built files with their sources")
    built = tmp_path / "app.css"
    subprocess.run([node, "frontend/build.mjs", "--styles-to", str(built)], cwd=ROOT, check=True, capture_output=True)
    assert built.read_text() == (ROOT / "static/dist/app.css").read_text(), "run npm run build and commit the result"


def test_the_page_for_our_own_failures_needs_no_database(rf: RequestFactory) -> None:
    """Without the database fixture every query is an error, and the request bears neither session nor person."""
    response = server_error(rf.get("/usage"))
    assert response.status_code == 500
    assert b"Something went wrong" in response.content
