"""The explorer in a real JupyterLab, in a real browser: mouse, keyboard, themes, narrow windows.

The test starts JupyterLab on a free loopback port. Screenshots go to the folder that
EXPLORER_SCREENSHOTS names, else to pytest's temporary folder; README's figures/explorer.png is one.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
GET_CHROMIUM = (
    "this test needs the Chromium browser: `apt-get install chromium` on Debian and Ubuntu, "
    "or set CHROMIUM=/path/to/chromium"
)
CHROMIUM = (
    os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}
TEXTS = (".st-story", ".st-problem strong", ".st-legend span", ".st-compare td.st-wrong")
OPEN_LIMIT_MS, STEP_LIMIT_MS = 1000, 100

# The scripted engine takes a minute over the target 99, so that a search can be stopped.
SOURCE = """from scripted_engine import ScriptedEngine
from lib.explorer.explorer import Explorer
Explorer(engine=ScriptedEngine(evil=True, slow_target=99))"""

GRID = """from grid import FIRST, GridEngine
from lib.explorer.explorer import Explorer
explorer = Explorer("grid.toml", engine=GridEngine(), first=(FIRST,))
explorer"""
WORKS = """from scripted_engine import ScriptedEngine
from lib.explorer.explorer import Explorer
Explorer(engine=ScriptedEngine(), first=("2, 39, 45, 10", 62))"""

pytestmark = pytest.mark.browser


def notebook(path: Path, source: str) -> None:
    cell = nbformat.v4.new_code_cell(source)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel}), path)


@pytest.fixture(scope="module")
def chromium():
    """The browser; without one this fails in CI and is skipped elsewhere."""
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail(GET_CHROMIUM)
        pytest.skip(GET_CHROMIUM)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(chromium, tmp_path_factory):
    """JupyterLab with a token on a free port; gives each notebook's address by its name."""
    folder = tmp_path_factory.mktemp("lab")
    notebook(folder / "scripted.ipynb", SOURCE)
    notebook(folder / "grid.ipynb", GRID)
    notebook(folder / "plain.ipynb", WORKS)
    notebook(folder / "saved.ipynb", WORKS)
    (folder / "grid.toml").write_text('[task]\nmodule = "grid"\nsettings = {}\n')
    shutil.copy(ROOT / "notebooks" / "06_explorer.ipynb", folder)
    (folder / "config" / "settings").mkdir(parents=True)
    (folder / "config" / "settings" / "overrides.json").write_text(json.dumps(SETTINGS))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    here = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "IPYTHONDIR")}
    environment = {
        **os.environ,
        **here,
        "HOME": str(folder),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "user-settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    command += [f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={token}"]
    command += ["--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"]
    command += [f"--LabApp.app_settings_dir={folder / 'config' / 'settings'}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    try:
        wait_for_server(server, port, token, folder / "lab.log")
        yield lambda name: f"http://127.0.0.1:{port}/doc/tree/{name}?token={token}"
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()


def wait_for_server(server, port, token, log) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status?token={token}", timeout=2)
            return
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.1)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    wanted = os.environ.get("EXPLORER_SCREENSHOTS")
    folder = Path(wanted) if wanted else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def opened(chromium, lab):
    """Opens a notebook, once, and runs it; gives the page. No page may log an error."""
    pages, errors = {}, []

    def open_page(name: str):
        if name in pages:
            return pages[name]
        sharp = 2 if name.startswith("06") else 1
        page = chromium.new_page(
            viewport={"width": 1280, "height": 1250}, device_scale_factor=sharp
        )
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: line.type == "error" and errors.append(line.text))
        page.goto(lab(name))
        page.locator(".jp-Notebook").wait_for()
        page.locator(".jp-Toolbar-kernelStatus, .jp-NotebookPanel-toolbar").first.wait_for()
        page.wait_for_function("window.jupyterapp?.shell.currentWidget?.context?.isReady")
        page.evaluate(
            "async () => { const c = window.jupyterapp.shell.currentWidget.context;"
            " await c.ready; await c.sessionContext.ready;"
            " await window.jupyterapp.commands.execute('notebook:run-all-cells'); }"
        )
        page.locator(".search-tree").wait_for()
        pages[name] = page
        return page

    yield open_page
    for page in pages.values():
        page.close()
    # The browser's own word on blocked or missing resources is no error of the page's.
    assert [line for line in errors if "Failed to load resource" not in line] == []


def run(page, numbers="2, 39, 45, 10", target="62", done="Search done", **settings):
    """Type a problem and press Run."""
    labels = {"breadth": "Breadth N", "depth": "Depth b", "seed": "Seed"}
    page.get_by_label("Numbers", exact=True).fill(numbers)
    page.get_by_label("Target", exact=True).fill(target)
    for name, value in ({"breadth": 16, "depth": 1, "seed": 0} | settings).items():
        page.get_by_label(labels[name], exact=True).fill(str(value))
    forget_message(page)
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator(".st-message", has_text=done).wait_for()


def type_problem(page, numbers: str, target: str) -> None:
    """Type a problem letter by letter, from field to field, and stay in the last one."""
    page.get_by_label("Numbers", exact=True).focus()
    page.keyboard.press("Control+A")
    page.keyboard.type(numbers)
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type(target)


def forget_message(page) -> None:
    """Clear the last message, so that waiting for the next one cannot find it."""
    page.evaluate("document.querySelector('.st-message').textContent = ''")


def shown(page) -> int:
    return page.locator(".st-node:not(.st-hidden)").count()


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def story(page) -> str:
    return page.locator(".st-story").inner_text()


def clipped(page, inside=".st-stage", what=".st-node:not(.st-hidden) :is(rect, text)") -> list[str]:
    """What is not wholly within the element."""
    return page.evaluate(
        """([inside, what]) => {
          const box = document.querySelector(inside).getBoundingClientRect();
          return [...document.querySelectorAll(what)].filter(part => {
            const at = part.getBoundingClientRect();
            return at.width && (at.left < box.left - 1 || at.right > box.right + 1 ||
              at.top < box.top - 1 || at.bottom > box.bottom + 1);
          }).map(part => part.textContent || part.getAttribute('class'));
        }""",
        [inside, what],
    )


def too_wide(page) -> list[str]:
    """What reaches beyond the view, but for the tree itself."""
    return page.locator(".search-tree").evaluate(
        """e => [...e.querySelectorAll('*')].filter(x => !x.closest('svg') &&
          x.getBoundingClientRect().right > e.getBoundingClientRect().right + 1)
          .map(x => x.className)"""
    )


def scale(page) -> float:
    return page.evaluate("document.querySelector('.search-tree').explorer.tree.view.zoom.scale")


# ---- 1. each step is told and has its phase ----------------------------------------------------


def test_each_step_is_told_and_has_its_phase(opened, shots):
    page = opened("scripted.ipynb")
    run(page)
    view = page.locator(".search-tree")
    assert "16 continuations of it are sampled side by side" in story(page)
    assert shown(page) == 1
    press(page, "Step ▶")
    assert shown(page) == 2 and "Sampled from the question" in story(page)
    press(page, "◀ Back")
    assert shown(page) == 1
    phases = page.get_by_role("group", name="Phases of the search").get_by_role("button")
    assert phases.all_inner_texts() == ["Expand", "Roll-back 1", "Select"]
    assert page.locator(".st-return:not(.st-hidden)").count() == 0

    # The roll-back is announced, with arrows to the states, before anything is found by it.
    press(page, "Roll-back 1")
    assert "are expanded again with 4 continuations each" in story(page)
    marked = page.locator(".st-marked").count()
    assert 1 <= marked <= 4 and page.locator(".st-now").count() >= marked
    assert page.locator(".st-node.st-again:not(.st-hidden)").count() == 0
    slider = page.get_by_role("slider", name="Step of the search")
    assert slider.get_attribute("aria-valuetext").endswith("Roll-back 1")
    press(page, "Step ▶")
    assert page.locator(".st-node.st-again:not(.st-hidden)").count() == 1
    assert "Sampled anew" in story(page) or "<backtrack> is sampled" in story(page)
    stroke = "e => getComputedStyle(e).stroke"
    boxes = (".st-node.st-again:not(.st-hidden) .st-box", ".st-step:not(.st-again) .st-box")
    anew, before = (page.locator(box).first.evaluate(stroke) for box in boxes)
    assert anew != before
    page.screenshot(path=shots / "1-roll-back.png")

    press(page, "End ▶|")
    total = int(view.get_attribute("data-count"))
    assert int(view.get_attribute("data-step")) == total and shown(page) == total - 2
    assert story(page).startswith("Select Chosen: ") and "is the highest of" in story(page)
    page.locator("select").filter(has_text="Votes").select_option("vote")
    assert "its number of samples" in story(page)
    page.locator("select").filter(has_text="Votes").select_option("mean_logprob")
    page.get_by_label("Roll back with", exact=True).select_option("N each")
    run(page)
    press(page, "Roll-back 1")
    assert "again with 16 continuations" in story(page)
    page.get_by_label("Roll back with", exact=True).select_option("√N each")


def test_play_has_a_speed_and_stops_at_the_end(opened):
    page = opened("scripted.ipynb")
    press(page, "|◀ Start")
    page.get_by_label("Speed").select_option("16")
    press(page, "▶ Play")
    page.wait_for_function("document.querySelector('.search-tree').dataset.step > 3")
    press(page, "❚❚ Pause")
    press(page, "▶ Play")
    ended = "(v => v.dataset.step === v.dataset.count)(document.querySelector('.search-tree'))"
    page.wait_for_function(ended)
    page.get_by_role("button", name="▶ Play", exact=True).wait_for()


# ---- 2. marks mean what they say ---------------------------------------------------------------


def test_marks_mean_what_they_say(opened, shots):
    page = opened("scripted.ipynb")
    run(page, breadth=64)
    press(page, "End ▶|")
    notes = page.locator(".st-goal .st-note").all_text_contents()
    assert notes and all(note[0] in "✓✕" for note in notes)
    assert set(page.locator(".st-goal .st-label").all_text_contents()) == {"stopped"}
    wrong = [note for note in notes if note != "✓ right"]
    assert wrong and not any("not reached target" in note for note in wrong)
    # The true reason, and the paper's name in brackets, in the table.
    told = page.locator(".st-paths td.st-wrong").all_inner_texts()
    named = r"✕ .+ \((not reached|invalid|incorrect|unknown).*\)"
    assert told and all(re.fullmatch(named, text) for text in told)

    # A <backtrack> was drawn by chance, with a probability that is told.
    page.locator(".st-backtrack:not(.st-hidden) .st-box").first.dispatch_event("click")
    said = page.locator(".st-details").inner_text()
    drawn = (
        r"<backtrack> is sampled \(\d+ samples?\)\. The model gives it (under |over )?\d+% there"
    )
    assert re.search(drawn, said)

    # Text from the model is text: nothing of it became an element, and no script ran.
    assert page.locator(".st-step", has_text="<img").count() > 0
    assert page.locator(".search-tree img").count() == 0
    assert page.title() != "hacked"

    # The solver's truth: words beside every <backtrack>, as high as the tree's own text.
    words = page.locator(".st-backtrack:not(.st-hidden) .st-note")
    assert words.count() == 0
    page.get_by_label("Solver’s truth").check()
    assert words.first.is_visible() and page.locator(".st-step .st-mark").first.is_visible()
    said = set(words.all_text_contents()) - {"took back an unfinished step"}
    assert said == {"✓ right to go back", "✕ gave up too early: 62 was in reach"}
    size = "parseFloat(getComputedStyle(document.querySelector('.st-note')).fontSize)"
    assert page.evaluate(size) >= 11
    assert "✓ 62 can still be reached" in page.locator(".st-legend").inner_text()
    page.screenshot(path=shots / "2-truth.png")
    page.get_by_label("Solver’s truth").uncheck()


# ---- 3. greedy beside search -------------------------------------------------------------------


def test_greedy_stands_beside_search(opened):
    page = opened("scripted.ipynb")
    run(page)
    lines = page.get_by_role("table", name="Greedy decoding beside search").get_by_role("row")
    assert lines.count() == 2
    assert lines.nth(0).inner_text().startswith("Greedy")
    assert "✕ stops with 2, 39, 45 and 10 left" in lines.nth(0).inner_text()
    assert "found in" in lines.nth(1).inner_text()
    press(page, "A problem that greedy fails")
    page.locator(".st-message", has_text="Search done").wait_for()
    assert "✕" in lines.nth(0).inner_text()


# ---- 4. how to read this -----------------------------------------------------------------------


def test_how_to_read_this(opened, shots):
    page = opened("scripted.ipynb")
    run(page, breadth=64)
    guide = page.locator(".st-guide")
    guide.locator("summary").click()
    for term in ("Breadth N", "depth b", "Log-probability", "level 0", "Selection", "Samples"):
        assert term in guide.inner_text()
    page.screenshot(path=shots / "4-guide.png")
    guide.locator("summary").click()
    for label in ("Numbers", "Target", "Breadth N", "Depth b", "Temperature", "Seed", "Checkpoint"):
        assert page.get_by_label(label, exact=True).get_attribute("title")
    heads = page.locator(".st-paths th")
    assert all(heads.nth(i).get_attribute("title") for i in range(1, heads.count()))

    # A path's score is the sum of its steps', traced in the details of its last node.
    page.locator(".st-path").first.click()
    rows = page.locator(".st-sum tbody td:nth-child(2)").all_inner_texts()
    tokens = page.locator(".st-sum tbody td:nth-child(3)").all_inner_texts()
    total, count = page.locator(".st-sum tfoot td").all_inner_texts()
    assert sum(map(float, rows)) == pytest.approx(float(total), abs=0.005)
    assert sum(map(int, tokens)) == int(count)
    score = page.locator(".st-paths tbody tr").first.locator("td").nth(4).inner_text()
    assert float(score.split()[0]) == pytest.approx(float(total) / int(count), abs=0.002)
    assert score.split()[0] in page.locator(".st-sum p").inner_text()


# ---- 5. state is never ambiguous ---------------------------------------------------------------


def test_state_is_never_ambiguous(opened, shots):
    page = opened("scripted.ipynb")
    run(page)
    press(page, "End ▶|")
    assert page.locator(".st-problem").inner_text().startswith("2, 39, 45, 10 → 62")
    # A changed field: the tree is marked as the old problem's, and nothing asks about a mixture.
    page.locator(".st-root .st-box").click()
    for field in ("Target", "Breadth N"):
        before = page.get_by_label(field, exact=True).input_value()
        page.get_by_label(field, exact=True).fill("63")
        stale = page.locator(".st-stale").inner_text()
        assert "still 2, 39, 45, 10 → 62 (given engine, N = 16" in stale
        assert page.get_by_role("button", name="Search on from here").is_disabled()
        assert page.get_by_role("button", name="Play this step").is_disabled()
        page.get_by_label(field, exact=True).fill(before)
        assert page.locator(".st-stale").is_hidden()
    # Enter in any field runs.
    for field, value in (("Target", "63"), ("Seed", "4"), ("Numbers", "2, 39, 45, 11")):
        page.get_by_label(field, exact=True).fill(value)
        forget_message(page)
        page.get_by_label(field, exact=True).press("Enter")
        page.locator(".st-message", has_text="Search done").wait_for()
    assert page.locator(".st-problem").inner_text().startswith("2, 39, 45, 11 → 63")

    # Details and action bar speak of one node, whatever the mouse is over; stepping moves both.
    run(page)
    for _ in range(5):
        press(page, "Step ▶")
    current = page.locator(".st-details strong").first.inner_text()
    assert page.locator(".st-selected").inner_text() == f"Selected: {current}"
    assert page.locator('.search-tree [aria-selected="true"]').count() == 1
    page.locator(".st-root .st-box").click()
    page.locator(".st-node.st-step:not(.st-hidden) .st-box").nth(2).hover()
    assert page.locator(".st-selected").inner_text() == "Selected: the question"
    assert page.locator(".st-details strong").first.inner_text() == "the question"
    # The step's own mark stays where the step is.
    here = page.locator(".st-here").bounding_box()
    assert abs(here["x"] - page.locator(".st-root .st-box").bounding_box()["x"]) > 40
    page.screenshot(path=shots / "5-selected-and-current.png")


def test_own_steps_and_searches_further_on(opened):
    page = opened("scripted.ipynb")
    run(page)
    page.locator(".st-root .st-box").click()
    page.get_by_label("A step of your own").fill("45-39=7")
    page.get_by_label("A step of your own").press("Enter")
    page.locator(".st-message", has_text="45-39=7: the model says").wait_for()
    assert story(page).startswith("Your step Your own step, the question: 45-39=7")
    assert "a step of your own" in page.locator(".st-details").inner_text()
    page.get_by_label("A step of your own").fill("<b>nonsense</b>")
    press(page, "Play this step")
    page.locator(".st-message", has_text="is not a step").wait_for()
    page.locator(".st-root .st-box").click()
    press(page, "Search on from here")
    page.locator(".st-message", has_text="Searched on").wait_for()
    assert story(page).startswith("Searched on 16 more continuations of the question sampled.")
    phases = page.locator(".st-phases button").all_inner_texts()
    assert phases == ["Expand", "Roll-back 1", "Your step", "Searched on", "Roll-back 1", "Select"]
    press(page, "End ▶|")
    page.locator(".st-root .st-box").click()
    assert "search on, 16 continuations" in page.locator(".st-details").inner_text()
    assert "count the first search alone" in page.locator(".st-paths").inner_text()


# ---- 6. seeing large trees ---------------------------------------------------------------------


def test_large_trees_fold_and_have_a_map(opened, shots):
    page = opened("plain.ipynb")
    page.locator(".st-message", has_text="Search done").wait_for()
    run(page, "3, 7, 11, 19, 25", "62", breadth=128, depth=2)
    press(page, "End ▶|")
    page.locator(".st-map").wait_for()
    press(page, "Fit")
    assert scale(page) >= 0.8
    assert page.get_by_label("Show", exact=True).input_value() in ("finished", "chosen")
    assert page.locator(".st-fold:not(.st-hidden)").count() > 0
    page.get_by_label("Show", exact=True).select_option("chosen")
    path = page.locator(".st-chosen").count()
    assert shown(page) == path and clipped(page) == []
    page.screenshot(path=shots / "6-chosen-path.png")
    folded = page.locator(".st-fold:not(.st-hidden)").first
    assert re.fullmatch(r"\+\d+ more", folded.text_content())
    folded.click()
    assert shown(page) > path
    page.get_by_label("Show", exact=True).select_option("all")
    before = page.evaluate("document.querySelector('.search-tree').explorer.tree.view.zoom.y")
    page.locator(".st-map").click(position={"x": 40, "y": 8})
    after = page.evaluate("document.querySelector('.search-tree').explorer.tree.view.zoom.y")
    assert before != after
    page.screenshot(path=shots / "6-map.png")


@pytest.mark.parametrize("width", [1280, 600])
def test_nothing_is_clipped_at_the_end(opened, shots, width):
    page = opened("06_explorer.ipynb")
    page.set_viewport_size({"width": width, "height": 1500})
    run(page, "17, 16, 10, 3", "20")
    press(page, "End ▶|")
    page.wait_for_timeout(300)
    page.screenshot(path=shots / f"6-end-{width}.png")
    assert clipped(page) == [] and scale(page) >= 0.8
    assert too_wide(page) == [] and page.locator(".st-map").is_hidden()
    page.get_by_label("Solver’s truth").check()
    page.locator(".search-tree").screenshot(path=shots / f"6-truth-{width}.png")
    assert clipped(page) == [] and too_wide(page) == []
    page.get_by_label("Solver’s truth").uncheck()
    page.set_viewport_size({"width": 1280, "height": 1250})


def test_folding_a_branch_hides_and_compacts(opened):
    page = opened("plain.ipynb")
    run(page)
    press(page, "End ▶|")
    before = shown(page)
    page.locator(".st-root .st-box").click()
    press(page, "Fold")
    assert shown(page) == 1
    assert page.locator(".st-root .st-fold").text_content() == f"+{before - 1} more"
    press(page, "Unfold")
    assert shown(page) == before


def test_big_tree_is_fluid(opened, shots):
    page = opened("plain.ipynb")
    run(page, "3, 7, 11, 19, 25", "62", breadth=512, depth=3)
    count = int(page.locator(".search-tree").get_attribute("data-count"))
    assert count > 1000
    press(page, "End ▶|")
    page.screenshot(path=shots / "6-big.png")
    figures = page.evaluate(TIMING)
    print(f"{count} steps: {figures}")
    (shots / "timing.json").write_text(json.dumps({"nodes": count, **figures}))
    assert figures["open_ms"] < OPEN_LIMIT_MS
    assert figures["step_ms"] < STEP_LIMIT_MS


# Opening: from the arrival of the data to the frame after it is drawn (the tree opens on its
# question), the best of three. A step: from the click to the frame after it, the median of forty,
# half of them where nearly all nodes are shown.
TIMING = """async () => {
  const frame = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  const view = document.querySelector('.search-tree');
  const button = name => [...view.querySelectorAll('button')].find(b => b.textContent === name);
  button('|◀ Start').click();
  await frame();
  const steps = [];
  for (let i = 0; i < 20; i += 1) {
    const start = performance.now();
    button('Step ▶').click();
    await frame();
    steps.push(performance.now() - start);
  }
  button('End ▶|').click();
  for (let i = 0; i < 20; i += 1) {
    const start = performance.now();
    button('◀ Back').click();
    await frame();
    steps.push(performance.now() - start);
  }
  const time = async action => {
    const start = performance.now();
    action();
    await frame();
    return Math.round(performance.now() - start);
  };
  let open_ms = Infinity;
  for (let i = 0; i < 3; i += 1) {
    open_ms = Math.min(open_ms, await time(() => view.explorer.load()));
  }
  const end_ms = await time(() => button('End ▶|').click());
  const { scale, x, y } = view.explorer.tree.view.zoom;
  const pan_ms = await time(() => view.explorer.tree.view.move(scale, x - 20, y - 20));
  const zoom_ms = await time(() => view.explorer.tree.view.zoomBy(0.9));
  steps.sort((a, b) => a - b);
  const step_ms = Math.round(steps[steps.length >> 1]);
  return { open_ms, end_ms, pan_ms, zoom_ms, step_ms, slowest_step_ms: Math.round(steps.at(-1)) };
}"""


# ---- 7. loading and saving ---------------------------------------------------------------------


def test_the_widget_is_there_before_its_tree(opened):
    """What it is doing stands in it at once: a search is slow, a widget is not."""
    page = opened("scripted.ipynb")
    run(page, target="99", done="Searching")
    assert page.get_by_role("button", name="Stop", exact=True).is_enabled()
    press(page, "Stop")
    page.locator(".st-message", has_text="Stopped").wait_for()
    run(page)


def test_save_page_from_the_widget(opened, tmp_path):
    page = opened("scripted.ipynb")
    run(page)
    with page.expect_download() as download:
        press(page, "Save page")
    assert download.value.suggested_filename == "tree-2--39--45--10---62.html"
    text = Path(download.value.path()).read_text()
    assert "N = 16, b = 1, T = 0.7, seed 0" in text and "Breadth N, level 0" in text


def test_a_saved_notebook_shows_its_last_picture(opened, lab, chromium, shots):
    page = opened("saved.ipynb")
    page.locator(".st-message", has_text="Search done").wait_for()
    page.locator(".st-saved").wait_for(state="attached")
    assert page.locator(".st-saved").is_hidden()
    page.evaluate(
        "async () => { const app = window.jupyterapp;"
        " await app.commands.execute('docmanager:save');"
        " await app.shell.currentWidget.context.sessionContext.shutdown(); }"
    )
    again = chromium.new_page(viewport={"width": 1280, "height": 900})
    again.goto(lab("saved.ipynb"))
    again.locator(".st-saved img").wait_for()
    again.wait_for_timeout(3000)
    again.screenshot(path=shots / "7-saved.png")
    assert again.locator(".st-saved img").is_visible()
    assert "run this cell" in again.locator(".st-saved").inner_text()
    for line in ("Error displaying widget", "Loading widget"):
        assert not any(each.is_visible() for each in again.get_by_text(line).all())
    again.close()


# ---- 8. a second task, both themes, keyboard alone ---------------------------------------------


def test_a_grid_in_the_node(opened, shots):
    page = opened("grid.ipynb")
    page.locator(".st-message", has_text="Search done: 13 nodes").wait_for()
    press(page, "End ▶|")
    assert page.locator(".st-root .st-label").all_text_contents() == ["12.", "...", "..2"]
    last = page.locator(".st-node.st-again.st-step").last
    assert "Grid: 123 / 231 / 312" in last.get_attribute("aria-label")
    assert clipped(page) == []
    page.get_by_label("Solver’s truth").check()
    assert page.get_by_text("a full grid was in reach").first.is_visible()
    page.screenshot(path=shots / "8-grid.png")
    # By keyboard alone, in both themes.
    press(page, "|◀ Start")
    page.locator('.search-tree [role="treeitem"][tabindex="0"]').focus()
    page.keyboard.press("Space")
    assert shown(page) == 2 and "Sampled from the question: r1c3=3" in story(page)
    page.keyboard.press("PageDown")
    assert story(page).startswith("Roll-back 1 ")
    for name in ("JupyterLab Dark", "JupyterLab Light"):
        theme(page, name)
        assert [text for text in TEXTS if contrast(page, text) < 4.5] == []
    field = page.get_by_label("Grid", exact=True)
    field.fill("1 2 3")
    field.press("Enter")
    page.locator(".st-message", has_text="type three rows").wait_for()


def test_dark_theme(opened, shots):
    page = opened("plain.ipynb")
    run(page)
    press(page, "End ▶|")
    theme(page, "JupyterLab Dark")
    page.screenshot(path=shots / "8-dark.png")
    colour = page.locator(".st-stage").evaluate("e => getComputedStyle(e).backgroundColor")
    assert max(map(int, re.findall(r"\d+", colour)[:3])) < 90
    # Every text can be told from its ground.
    assert [text for text in TEXTS if contrast(page, text) < 4.5] == []
    theme(page, "JupyterLab Light")
    assert [text for text in TEXTS if contrast(page, text) < 4.5] == []


def theme(page, name) -> None:
    light = str("Light" in name).lower()
    page.evaluate(
        "name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name
    )
    page.locator(f"body[data-jp-theme-light='{light}']").wait_for(state="attached")
    page.locator("#jupyterlab-splash").wait_for(state="detached")


def contrast(page, selector) -> float:
    """The WCAG contrast of an element's text with the ground under it."""
    colours = page.locator(selector).first.evaluate(
        """e => { let at = e;
          while (getComputedStyle(at).backgroundColor === 'rgba(0, 0, 0, 0)') at = at.parentElement;
          return [getComputedStyle(e).color, getComputedStyle(at).backgroundColor]; }"""
    )

    def luminance(colour):
        parts = [float(part) / 255 for part in re.findall(r"[\d.]+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted(luminance(colour) for colour in colours)
    return (light + 0.05) / (dark + 0.05)


def test_keyboard_only(opened):
    page = opened("scripted.ipynb")
    run(page)
    type_problem(page, "3, 7, 11, 25", "40")
    for _ in range(7):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Run"
    forget_message(page)
    page.keyboard.press("Enter")
    page.locator(".st-message", has_text="Search done").wait_for()
    page.wait_for_function("document.querySelector('.search-tree').dataset.step == 1")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('role')") == "treeitem":
            break
    focus = page.locator(":focus")
    assert focus.get_attribute("aria-label").startswith("The question: 3, 7, 11, 25 → 40")
    cells = page.locator(".jp-Cell").count()
    for _ in range(4):
        page.keyboard.press("Space")
    assert shown(page) == 5
    assert "ampled" in focus.get_attribute("aria-label")  # the focus went along
    page.keyboard.press("Shift+Space")
    assert shown(page) == 4
    page.keyboard.press("Home")
    assert focus.get_attribute("aria-level") == "1"
    page.keyboard.press("ArrowRight")
    assert focus.get_attribute("aria-level") == "2"
    assert focus.get_attribute("aria-selected") == "true"
    page.keyboard.press("ArrowLeft")
    assert focus.get_attribute("aria-level") == "1"
    page.keyboard.press("c")
    assert focus.get_attribute("aria-expanded") == "false" and shown(page) == 1
    page.keyboard.press("c")
    assert shown(page) == 4
    page.keyboard.press("PageDown")
    assert "are expanded again" in story(page)
    page.keyboard.press("PageUp")
    assert story(page).startswith("Expand The question")
    assert page.locator(".jp-Cell").count() == cells  # JupyterLab took none of these keys
    page.keyboard.press("PageDown")
    items = page.get_by_role("treeitem")
    assert items.count() == shown(page) and page.get_by_role("tree").count() >= 1
    unnamed = "[...document.querySelectorAll('.search-tree :is(button, input, select, textarea)')]"
    unnamed += ".filter(e => !(e.ariaLabel || e.textContent.trim() || e.title || e.labels?.length))"
    assert page.evaluate(unnamed + ".length") == 0


def test_run_takes_what_was_typed_while_the_kernel_was_busy(opened):
    page = opened("scripted.ipynb")
    page.evaluate(
        "window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel"
        ".requestExecute({ code: 'import time; time.sleep(2)' }) && null"
    )
    type_problem(page, "3, 7, 11, 24", "41")
    forget_message(page)
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator(".st-message", has_text="Search done").wait_for()
    page.locator('svg[aria-label*="3, 7, 11, 24 → 41"]').wait_for()


def test_bad_input_stop_and_restart(opened):
    page = opened("scripted.ipynb")
    for numbers, target, message in [
        ("", "5", "0 given"),
        ("1, two, 3", "5", "'two' is not a whole number"),
        ("0, 1, 2", "5", "'0' is not"),
        ("-4, 1, 2", "5", "'-4' is not"),
        ("1, 2, 3", "9" * 30, "is not a whole number"),
        ("1, 2, 3", "", "Target: missing"),
    ]:
        run(page, numbers, target, message)
    run(page, target="99", done="Searching")
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator(".st-message", has_text="A search is under way").wait_for()
    page.get_by_role("button", name="Stop", exact=True).click()
    page.locator(".st-message", has_text="Stopped").wait_for()
    page.evaluate("window.jupyterapp.shell.currentWidget.context.sessionContext.restartKernel()")
    page.locator(".st-message", has_text="kernel was restarted").wait_for()


def test_the_notebook_itself(opened, shots):
    page = opened("06_explorer.ipynb")
    for label in ("Numbers", "Target", "Breadth N", "Depth b", "Temperature", "Seed", "Checkpoint"):
        assert page.get_by_label(label, exact=True).count() == 1
    assert page.locator(".st-message").inner_text()
    assert page.locator(".jp-OutputArea-output[data-mime-type*='error']").count() == 0
    page.locator(".jp-OutputArea-output:not(:has(.st-saved)) img").wait_for()  # explorer.figure()
    assert page.locator(".st-saved").is_hidden()
    # The opening problem: greedy fails, and the search finds the way by a roll-back.
    press(page, "End ▶|")
    greedy, search = page.locator(".st-compare tr").all()
    assert "✕" in greedy.inner_text()
    assert "✓ right, found in roll-back 1" in search.inner_text()
    assert clipped(page) == []
    page.screenshot(path=shots / "notebook.png")
    take_readme_picture(page, shots / "explorer.png")
    page.get_by_label("Numbers", exact=True).fill("1, 2, 3, 4, 9999")
    page.get_by_label("Numbers", exact=True).press("Enter")
    page.locator(".st-warning", has_text="9999 (trained on numbers up to 25)").wait_for()


def take_readme_picture(page, path) -> None:
    """The view down to its tree, of the width that a README has, at twice its resolution."""
    page.set_viewport_size({"width": 1070, "height": 1700})
    page.wait_for_timeout(500)
    top, end = (page.locator(each).bounding_box() for each in (".st-form", ".st-stage"))
    x, y = top["x"] - 12, top["y"] - 10
    width, height = end["width"] + 26, end["y"] + end["height"] - y + 4
    page.screenshot(path=path, clip={"x": x, "y": y, "width": width, "height": height})
    page.set_viewport_size({"width": 1280, "height": 1250})


def test_shared_page(chromium, tmp_path, shots):
    """The self-contained file, opened from the disk with no network at all."""
    from scripted_engine import ScriptedEngine

    from lib.explorer.explorer import Explorer

    explorer = Explorer(engine=ScriptedEngine(evil=True))
    explorer.run("2, 39, 45, 10", 62)
    path = explorer.save(tmp_path / "tree.html")
    errors, requests = [], []
    page = chromium.new_page(viewport={"width": 1250, "height": 1000})
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: line.type == "error" and errors.append(line.text))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.locator(".st-node").first.wait_for()
    assert shown(page) == len(explorer.tree.nodes)
    page.get_by_role("button", name="|◀ Start").click()
    assert shown(page) == 1
    assert page.get_by_role("button", name="Search on from here").count() == 0
    assert page.locator("img").count() == 0 and page.title() != "hacked"
    press(page, "End ▶|")
    assert clipped(page) == []
    heading = page.locator(".st-problem").inner_text()
    assert "given engine, N = 16, b = 1, T = 0.7, seed 0" in heading
    page.locator(".st-guide summary").click()
    assert "Roll-back, depth b" in page.locator(".st-guide").inner_text()
    page.get_by_label("Solver’s truth").check()
    told = [node["note"] for node in explorer.treeview.nodes if node["note"]]
    assert page.locator(".st-note").all_text_contents() == told
    page.get_by_label("Show", exact=True).select_option("chosen")
    assert clipped(page) == []
    page.get_by_label("Show", exact=True).select_option("all")
    page.screenshot(path=shots / "page.png", full_page=True)
    page.emulate_media(color_scheme="dark")
    page.screenshot(path=shots / "page-dark.png", full_page=True)
    assert clipped(page) == [] and too_wide(page) == []
    page.set_viewport_size({"width": 600, "height": 1000})
    page.wait_for_timeout(300)
    page.screenshot(path=shots / "page-600.png", full_page=True)
    assert too_wide(page) == []
    assert requests == [path.as_uri()] and errors == []
    page.close()


def test_a_sudoku_is_drawn_as_grids(chromium, tmp_path, shots):
    from grid import SUDOKU, SUDOKU_FIRST, sudoku_engine

    from lib.explorer.explorer import Explorer

    (tmp_path / "sudoku.toml").write_text(SUDOKU)
    explorer = Explorer(str(tmp_path / "sudoku.toml"), engine=sudoku_engine())
    explorer.run(SUDOKU_FIRST)
    page = chromium.new_page(viewport={"width": 1250, "height": 1000})
    page.goto(explorer.save(tmp_path / "tree.html").as_uri())
    root = page.locator(".st-root")
    root.wait_for()
    assert root.locator(".st-given").text_content() == "1242142"  # its seven digits
    assert root.locator(".st-filled").text_content() == "" and root.locator("rect").count() == 1
    first = page.locator('[data-id="1"]')
    assert first.locator(".st-filled").text_content() == "3"
    [cell, given] = (first.locator(f".st-{name}").bounding_box() for name in ("written", "filled"))
    assert cell["x"] < given["x"] and given["x"] + given["width"] < cell["x"] + cell["width"]
    assert cell["y"] < given["y"] + 3 and given["y"] + given["height"] < cell["y"] + 17
    assert too_wide(page) == []
    page.screenshot(path=shots / "sudoku.png", full_page=True)
    page.close()
