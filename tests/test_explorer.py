"""`explorer.html`: what is in it, and what a reader can do with it in Chromium."""

import base64
import hashlib
import json
import re
import zlib

import browser
import numpy as np
import pytest
from test_exact import EASY, evaluated, heading, one_hot

from cs285.analysis.exact import Data
from cs285.analysis.maps import Maps, RunMaps, Squares, best_of, counts_of, density_of, maps_of
from cs285.envs.dynamics import move
from cs285.envs.mazes import MAZES, observe
from cs285.report import explorer

MAZE = MAZES[EASY]
HARD = MAZES["PointmassHard-v0"]
NAME = "a <b>run</b> </script><script>alert(1)</script>"
LEFT, RIGHT, UP, DOWN, SPACE, ENTER, TAB = (
    "\ue012", "\ue014", "\ue013", "\ue015", " ", "\ue007", "\ue004",
)  # fmt: skip
"""Keys as WebDriver names them."""

in_browser = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "runs")


def still(observations):
    return one_hot(np.zeros(len(observations), dtype=int))


@pytest.fixture(scope="module")
def runs():
    """Two runs on Easy: one that first stood still and then learned to walk, one that stands."""
    rng = np.random.default_rng(0)
    positions = rng.random((500, 2)) * (2.0, 10.0)
    data = Data(observe(MAZE, positions), rng.integers(0, 5, 500))
    walking, standing = evaluated(EASY, heading(MAZE)), evaluated(EASY, still)
    model = walking.chain.model

    def learned(observations):
        found = model.interpolation(observations) @ walking.action_values
        return (found + 3.0).astype(np.float32)

    good = maps_of(2_000, walking, heading(MAZE), learned)
    bad = maps_of(1_000, standing, still, learned)
    bare = maps_of(2_000, standing, still, None)
    shared = (MAZE, 0.95, best_of(model, 0.95))
    density, counts = density_of(MAZE, data), counts_of(MAZE, data)
    return [
        RunMaps(NAME, *shared, density, counts, (bad, good), {}),
        RunMaps("bare", *shared, None, None, (bare,), {}),
    ]


@pytest.fixture(scope="module")
def page(runs):
    return explorer.render(runs)


def unpacked(packed):
    """Reads packed numbers `(F, channels)`, one after the other."""
    given = zlib.decompress(base64.b64decode(packed["data"]), wbits=-15)
    size = len(given) // packed["bytes"] // packed["channels"]
    found = np.empty((size, packed["channels"]))
    for channel in range(packed["channels"]):
        whole = 0
        for k in range(size):
            place = channel * size + k
            planes = range(packed["bytes"])
            total = size * packed["channels"]
            whole += sum(given[b * total + place] << 8 * b for b in planes)
            whole %= 256 ** packed["bytes"]
            found[k, channel] = packed["low"] + packed["step"] * whole
    return found


def free(field):
    return field[Squares(MAZE, 8).free]


def test_the_page_holds_the_maps_up_to_rounding(runs):
    data = explorer.page_data(runs)
    (world,) = data["worlds"]  # both runs are in one maze, with one discount
    assert "".join(world["walls"]).count(".") == 36
    assert (world["perUnit"], world["limit"], world["radius"]) == (8, 50, 2.0)
    np.testing.assert_allclose(unpacked(world["best"]), free(runs[0].best), atol=0.006)
    first, second = data["runs"]
    np.testing.assert_array_equal(unpacked(first["counts"]), runs[0].counts[~MAZE.walls])
    moment, maps = first["moments"][1], runs[0].last
    assert moment["step"] == 2_000
    for name in ("learned", "exact"):
        np.testing.assert_allclose(unpacked(moment[name]), free(getattr(maps, name)), atol=0.006)
    np.testing.assert_allclose(unpacked(moment["policy"]), free(maps.policy), atol=0.003)
    often = free(maps.occupancy) > 1e-6
    logarithms = np.log10(64 * free(maps.occupancy)[often])
    np.testing.assert_allclose(unpacked(moment["occupancy"])[often, 0], logarithms, atol=0.006)
    assert second["counts"] is None
    assert second["moments"][0]["learned"] is None


def test_joined_squares_have_mean_values(runs):
    data = explorer.page_data(runs, joined=2, most=1)
    assert data["worlds"][0]["perUnit"] == 4
    (moment,) = data["runs"][0]["moments"]
    assert moment["step"] == 2_000
    exact = runs[0].last.exact
    first = unpacked(moment["exact"])[0]
    np.testing.assert_allclose(first, exact[:2, :2].mean(axis=(0, 1)), atol=0.006)


def test_huge_values_keep_their_size():
    field = np.array([[0.0], [1e9], [-1e9]])
    np.testing.assert_allclose(unpacked(explorer._packed(field, 0.01)), field, atol=2e9 / 65_535)


def test_ten_runs_of_the_largest_maze_stay_below_2_mb():
    rng = np.random.default_rng(0)
    shape = Squares(HARD, 4).shape
    wall = np.where(Squares(HARD, 4).free, 0.0, np.nan)
    smooth = -np.add.outer(np.arange(shape[0]), np.arange(shape[1])) / 4.0

    def field(*channels):
        noise = rng.normal(0, 0.3, (*shape, *channels))
        return (smooth + wall)[(..., *[None] * len(channels))] + noise

    moments = [
        Maps(step, field(5), field(5), rng.dirichlet(np.ones(5), shape) + wall[..., None],
             np.abs(field()), {"expected_return": -40.0})
        for step in (1, 2)
    ]  # fmt: skip
    counts = rng.integers(0, 100, (22, 22, 5))
    run = RunMaps(
        "a run", HARD, 0.98, field(5), np.abs(field()), counts, (*moments, *moments),
        {},
    )  # fmt: skip
    runs = [run] * 10
    assert len(explorer.render(runs).encode()) < 2_000_000


def test_the_page_asks_for_nothing_and_runs_only_its_own_script(page):
    assert not re.search(r"""(?:src|href)=(?!["']?data:)|https?:|url\(|@import""", page)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none';")
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts]
    assert re.findall(r"'sha256-([^']+)'", policy) == digests
    assert "unsafe-eval" not in policy


def test_names_of_runs_are_text(page):
    (block,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert json.loads(block)["runs"][0]["name"] == NAME
    assert "<b>run" not in page


# In a browser


@pytest.fixture(scope="module")
def chromium():
    with browser.browse() as one:
        yield one


@pytest.fixture(scope="module")
def file(page, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "explorer.html"
    path.write_text(page)
    return path


@pytest.fixture
def reader(chromium, file):
    """A reader who has just opened the page at a desk, and does not like motion."""
    chromium.screen(1280, 1400, still=True)
    chromium.open(file)
    chromium.wait("window.explorer")
    chromium.wait("document.querySelector('.readout td')")
    yield chromium
    assert chromium.complaints() == []


def panel(number):
    return f"article:nth-of-type({number})"


def choose(reader, selector, value):
    """Changes a control as a reader does."""
    reader.run(
        "const one = document.querySelector(arguments[0]); one.value = arguments[1];"
        "for (const name of ['input', 'change']) one.dispatchEvent(new Event(name))",
        selector, value,
    )  # fmt: skip


def cells(reader, number):
    """The table of a panel: a list of texts for each action."""
    script = """return [...document.querySelectorAll(arguments[0] + ' .readout tbody tr')]
        .map((row) => [...row.children].map((cell) => cell.textContent.trim()))"""
    return reader.run(script, panel(number))


def settle(reader):
    """Waits until what was done is drawn."""
    reader.run("window.drawn = false; requestAnimationFrame(() => requestAnimationFrame("
               "() => { window.drawn = true; }))")  # fmt: skip
    reader.wait("window.drawn")


def numbers(texts):
    return [float(text.replace("\N{MINUS SIGN}", "-")) for text in texts]


@in_browser
@pytest.mark.parametrize("pointer", ["mouse", "touch"])
def test_a_place_that_is_pointed_at_or_tapped_shows_its_numbers(reader, runs, pointer):
    """The middle of a map of 10 x 10 cells, then 4.1 cells to the right: row 5, column 9.1."""
    width = reader.run("return document.querySelector('canvas').clientWidth")
    offset = [round(width * 0.41), round(width * 0.002)]
    reader.point(f"{panel(1)} canvas", offset, pointer, press=pointer == "touch")
    settle(reader)
    y, x = reader.run("return explorer.probe()")
    assert [y, x] == pytest.approx([0.502, 0.91], abs=0.01)
    row, column = int(y * 80), int(x * 80)
    first, second = cells(reader, 1), cells(reader, 2)
    maps = runs[0].last
    for k, field in ((1, maps.learned), (2, maps.exact), (3, runs[0].best)):
        found = numbers(line[k] for line in first)
        np.testing.assert_allclose(found, field[row, column], atol=0.012)
    assert [line[4] for line in first] == ["0\N{NO-BREAK SPACE}%"] * 4 + ["100\N{NO-BREAK SPACE}%"]
    assert numbers(line[5] for line in first) == runs[0].counts[5, 9].tolist()
    assert [line[1] for line in second] == ["\N{EM DASH}"] * 5
    assert second[0][4] == "100\N{NO-BREAK SPACE}%"
    stars = [line[0].endswith("\N{BLACK STAR}") for line in first]
    assert stars.index(True) == runs[0].best[row, column].argmax()


@in_browser
def test_arrow_keys_move_the_place_and_walls_are_called_walls(reader):
    reader.run("document.activeElement.blur()")
    before = reader.run("return explorer.probe()")
    reader.press(RIGHT, RIGHT, DOWN)
    after = reader.run("return explorer.probe()")
    assert np.subtract(after, before) == pytest.approx([1 / 80, 2 / 80])
    reader.press(*[DOWN] * 12)
    settle(reader)
    assert "wall" in reader.text(f"{panel(1)} .readout")


@in_browser
def test_space_plays_episodes_and_enter_starts_them_at_the_place(reader):
    reader.run("document.activeElement.blur()")
    reader.press(SPACE)
    settle(reader)
    assert re.match(r"20 of 20 episodes .*mean return .1\d\.\d", reader.text(f"{panel(1)} .result"))
    assert re.match(r"0 of 20 episodes .* .50\.0", reader.text(f"{panel(2)} .result"))
    reader.press(RIGHT, ENTER)
    start = reader.run("return explorer.panels[1].start")
    assert start == pytest.approx(np.multiply(reader.run("return explorer.probe()"), 10).tolist())
    reader.click("#home")
    assert reader.run("return explorer.panels[1].start") == [1, 1]


@in_browser
def test_episodes_are_seen_step_by_step_and_can_be_paused(reader):
    reader.screen(1280, 1400)
    reader.click("#play")
    reader.wait("explorer.panels[0].episodes[0]?.length > 2")
    reader.click("#play")
    length = reader.run("return explorer.panels[0].episodes[0].length")
    assert length < 50
    settle(reader)
    assert reader.run("return explorer.panels[0].episodes[0].length") == length
    assert reader.text("#play") == "Play episodes"


@in_browser
@pytest.mark.parametrize("pointer", ["mouse", "touch"])
def test_the_start_can_be_dragged_but_not_into_a_wall(reader, pointer):
    width = reader.run("return document.querySelector('canvas').clientWidth")
    reader.drag(f"{panel(1)} .start", [round(0.4 * width), 0], pointer)
    assert reader.run("return explorer.panels[0].start") == pytest.approx([1, 5], abs=0.1)
    reader.drag(f"{panel(1)} .start", [0, round(0.5 * width)], pointer)
    row, column = reader.run("return explorer.panels[0].start")
    assert row < 2
    assert column == pytest.approx(5, abs=0.1)


@in_browser
def test_the_slider_shows_the_agent_of_each_checkpoint(reader, runs):
    assert reader.text("#at") == "step 2,000"
    assert cells(reader, 1)[0][4].startswith("0")
    choose(reader, "#step", "0")
    settle(reader)
    assert reader.text("#at") == "step 1,000"
    assert cells(reader, 1)[0][4].startswith("100")
    assert "step 1,000" in reader.text(f"{panel(1)} .about")
    # The other run kept only its last agent.
    assert "step 2,000" in reader.text(f"{panel(2)} .about")


@in_browser
def test_runs_are_chosen_side_by_side(reader):
    assert reader.text(f"{panel(1)} h2") == NAME
    boxes = "return [...document.querySelectorAll('article')].map((one) => one.offsetWidth > 0)"
    assert reader.run(boxes) == [True, True]
    reader.click("#run0")
    assert reader.run(boxes) == [False, True]
    assert reader.run("return document.querySelector('#step').disabled")
    reader.click("#run1")
    assert reader.text("#note") == "Choose a run."


@in_browser
def test_every_map_is_drawn_in_both_colour_schemes(reader):
    names = reader.run("return [...document.querySelector('#map').options].map((one) => one.value)")
    pixel = "return explorer.panels[0].canvas.toDataURL()"
    for dark in (False, True):
        reader.screen(1280, 1400, dark=dark, still=True)
        seen = set()
        for name in names:
            choose(reader, "#map", name)
            settle(reader)
            seen.add(reader.run(pixel))
        assert len(seen) == len(names) == 6
    choose(reader, "#map", "data")
    settle(reader)
    assert "dataset was not there" in reader.text(f"{panel(2)} .legend")
    back = "return getComputedStyle(document.body).backgroundColor"
    assert max(map(int, re.findall(r"\d+", reader.run(back))[:3])) < 60


@in_browser
def test_nothing_is_cut_off_on_a_phone(reader):
    reader.screen(390, 844, still=True)
    settle(reader)
    script = """return [...document.querySelectorAll('main *')]
        .filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5)
        .map((one) => one.outerHTML.slice(0, 80))"""
    assert reader.run(script) == []
    inner = """const article = document.querySelector('article').getBoundingClientRect();
        return document.querySelector('.readout table').getBoundingClientRect().right
            <= article.right"""
    assert reader.run(inner)


@in_browser
def test_points_move_as_in_the_environment(reader):
    rng = np.random.default_rng(1)
    starts = np.concatenate(
        [rng.random((150, 2)) * (2, 10), [0, 8] + rng.random((150, 2)) * (10, 2)]
    )
    moves = rng.normal(0, 1.5, starts.shape)
    script = """const { world } = explorer.panels[0].run;
        return arguments[0].map((from, k) => explorer.move(world, from, arguments[1][k]))"""
    found = reader.run(script, starts.tolist(), moves.tolist())
    np.testing.assert_allclose(found, move(MAZE.walls, starts, moves), atol=1e-12)


@in_browser
def test_simulated_episodes_have_the_exact_return(reader, runs):
    script = """const { run, moment, start } = explorer.panels[0];
        return Array.from({ length: 3000 }, (_, k) => {
            const episode = new explorer.Episode(run, moment, start, k);
            while (!episode.done) episode.step();
            return episode.total;
        })"""
    returns = np.array(reader.run(script))
    error = returns.std() / len(returns) ** 0.5
    exact = runs[0].last.numbers["expected_return"]
    # The policy is looked up on squares, of which those at its switch differ from the policy.
    assert abs(returns.mean() - exact) < 4 * error + 0.1
