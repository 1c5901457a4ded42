"""The report, from run folders of these scripts and of other versions."""

import base64
import html
import io
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cs285 import homework
from cs285.envs.mazes import MAZES
from cs285.envs.planner import plan
from cs285.homework import Algorithm, Question, Stage, algorithms
from cs285.infrastructure.errors import UserError
from cs285.report import page, plots
from cs285.report.build import build
from cs285.report.collection import (
    EXPLORATION_PICTURE,
    Collection,
    Experiment,
    LeftOut,
    collect,
)
from cs285.report.parts import format_final
from cs285.report.sections import answer
from cs285.report.sections.exploration import exploration
from cs285.report.words import front_matter
from cs285.results.run_folders import RunFolder
from cs285.results.sinks import Logger
from cs285.submission.bundle import CODE_SUFFIXES

ROOT = Path(__file__).parent.parent
ENV_IDS = {maze.name: env_id for env_id, maze in MAZES.items()}
QUESTIONS = ["3.1", "3.2", "4.1", "4.1", "4.2", "4.3", "5"]
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def write_run(
    data_dir: Path,
    stage: str,
    exp_name: str,
    *,
    seed: int = 1,
    time: str = "2026-01-31_12-00-00",
    returns: tuple[float, ...] = (-90.0, -60.0, -50.0, -40.0),
    steps: int | None = None,
    picture: bool = False,
    config: bool = True,
    **settings: object,
) -> Path:
    """Makes a run folder; `exp_name` is `pointmass_{maze}_{algorithm}` and more.

    Without a config, the run takes as many steps as those of public versions.
    """
    if steps is None:
        public = {"explore": 10_000, "offline": 100_000, "finetune": 200_000}
        steps = 400 if config else public[stage]
    _, maze, algorithm, *_ = exp_name.split("_")
    folder = data_dir / f"hw5_{stage}_{exp_name}_sd{seed}_{time}"
    folder.mkdir(parents=True)
    planned = {
        "explore": {"total_steps": steps},
        "offline": {"training_steps": steps},
        "finetune": {"offline_steps": steps // 2, "online_steps": steps // 2},
    }[stage]
    identity = {
        "base_config": algorithm,
        "env_name": ENV_IDS[maze],
        "exp_name": exp_name,
        "seed": seed,
    }
    if config:
        RunFolder(folder).write_config(identity | planned | settings)
    with Logger(RunFolder(folder)) as logger:
        for index, value in enumerate(returns, start=1):
            step = steps * index // len(returns)
            values = {"eval_return": value, "q_values": value / 10, "coverage": index / 10}
            logger.scalars(values, step)
        if picture:
            figure = Figure((2, 2))
            figure.subplots().plot([0, 1])
            logger.figure(figure, EXPLORATION_PICTURE, steps)
    return folder


def write_homework(data_dir: Path) -> None:
    """Makes runs for every question, with two seeds."""
    for seed in (1, 2):
        for maze in ("easy", "medium"):
            for algorithm in ("random", "rnd"):
                write_run(
                    data_dir, "explore", f"pointmass_{maze}_{algorithm}", seed=seed, picture=True
                )
        for algorithm in ("dqn", "cql", "awac", "iql"):
            write_run(data_dir, "offline", f"pointmass_medium_{algorithm}", seed=seed)
        for alpha in (0.0, 1.0):
            name = f"pointmass_medium_cql_alpha{alpha:g}"
            write_run(data_dir, "offline", name, seed=seed, cql_alpha=alpha)
        for size in (1000, 5000):
            name = f"pointmass_medium_rnd_{size}"
            write_run(data_dir, "explore", name, seed=seed, dataset_name=name)
            write_run(
                data_dir, "offline", f"pointmass_medium_cql_rnd{size}", seed=seed,
                dataset_name=name, cql_alpha=0.1,
            )  # fmt: skip
        write_run(data_dir, "finetune", "pointmass_hard_cql_finetune", seed=seed)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on all questions."""
    folder = tmp_path_factory.mktemp("report")
    write_homework(folder / "data")
    (folder / "data" / "hw3_dqn_LunarLander").mkdir()
    build(folder / "data", folder / "out")
    return folder / "out"


def only(collection: Collection) -> Experiment:
    (experiment,) = collection.experiments
    return experiment


# Which runs it includes


def test_seeds_of_one_experiment_are_grouped(tmp_path: Path) -> None:
    for seed, last in ((1, -40.0), (2, -30.0)):
        write_run(tmp_path, "offline", "pointmass_hard_cql", seed=seed, returns=(last,) * 3)
    experiment = only(collect(tmp_path))
    assert experiment.returns == [-40.0, -30.0]
    assert experiment.final is not None
    assert experiment.final.iqm == -35.0


def test_two_runs_with_one_name_are_both_kept_and_count_as_one_seed(tmp_path: Path) -> None:
    for time, last in (("2026-01-31_12-00-00", -40.0), ("2026-01-31_13-00-00", -30.0)):
        write_run(tmp_path, "offline", "pointmass_hard_cql", time=time, returns=(last,) * 3)
    collection = collect(tmp_path)
    assert len({run.name for run in collection.runs}) == 2
    assert only(collection).returns == [-35.0]


def test_keys_without_effect_in_older_configs_do_not_split_an_experiment(tmp_path: Path) -> None:
    write_run(tmp_path, "offline", "pointmass_hard_awac", seed=1, use_double_q=True)
    write_run(tmp_path, "offline", "pointmass_hard_awac", seed=2)
    experiment = only(collect(tmp_path))
    assert len(experiment.runs) == 2
    assert "use_double_q" not in experiment.first.settings


def test_experiments_of_one_name_with_other_settings_are_numbered(tmp_path: Path) -> None:
    for time, alpha in (("2026-01-31_12-00-00", 0.1), ("2026-01-31_13-00-00", 5.0)):
        write_run(tmp_path, "offline", "pointmass_hard_cql", time=time, cql_alpha=alpha)
    names = [experiment.name for experiment in collect(tmp_path).experiments]
    assert names == ["pointmass_hard_cql #1", "pointmass_hard_cql #2"]


def test_curve_holds_the_steps_that_all_seeds_have(tmp_path: Path) -> None:
    write_run(tmp_path, "offline", "pointmass_hard_cql", seed=1, returns=(-4.0, -3.0))
    write_run(tmp_path, "offline", "pointmass_hard_cql", seed=2, returns=(-9.0, -2.0, -8.0, -1.0))
    curve = only(collect(tmp_path)).curve("eval_return")
    assert curve is not None
    assert curve.steps.tolist() == [200, 400]
    assert curve.iqm.tolist() == [-3.0, -2.0]


def test_run_of_a_public_version_is_known_by_its_name(tmp_path: Path) -> None:
    made = write_run(tmp_path, "offline", "pointmass_medium_cql", config=False)
    made.rename(tmp_path / "hw5_offline_PointmassMedium-v0_cql0.5_31-01-2026_12-00-00")
    run = only(collect(tmp_path)).first
    assert (run.env_id, run.algorithm, run.seed) == ("PointmassMedium-v0", "cql", None)
    assert only(collect(tmp_path)).alpha == 0.5


@pytest.mark.parametrize(
    ("name", "spoil", "reason"),
    [
        ("hw3_dqn_LunarLander_2023", None, "homework 3"),
        ("hw5_offline_something", None, "which environment it used"),
        ("hw5_offline_pointmass_hard_ppo", None, "which algorithm it used"),
        ("hw5_offline_pointmass_hard_cql", None, "no event file"),
        ("hw5_offline_pointmass_hard_cql", "empty", "is empty"),
        ("hw5_offline_pointmass_hard_cql", "no evaluation", "eval_return is missing"),
        ("hw5_offline_pointmass_hard_cql", "nan", "not finite"),
        ("hw5_offline_pointmass_hard_cql", "unfinished", "at step 100 of 400"),
    ],
)
def test_run_is_left_out_with_its_reason(
    tmp_path: Path, name: str, spoil: str | None, reason: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    if spoil == "empty":
        (folder / "events.out.tfevents.1.host").touch()
    elif spoil:
        with Logger(RunFolder(folder)) as logger:
            tag = "q_values" if spoil == "no evaluation" else "eval_return"
            logger.scalars({tag: float("nan") if spoil == "nan" else -50.0}, 100)
            if spoil == "unfinished":
                RunFolder(folder).write_config({"training_steps": 400})
                (folder / "sweep.json").touch()
    collection = collect(tmp_path)
    assert collection.runs == []
    ((left_out, why),) = collection.left_out
    assert left_out == name
    assert reason in why
    resume = f"resume it with run_hw5_offline.py --resume {folder}"
    assert (resume in why) == (spoil == "unfinished")


@pytest.mark.parametrize("content", [b"", b"- a\n- b", b"a: [", b"\xff\xfe", b"[" * 5_000])
def test_run_with_an_invalid_config_is_known_by_its_name(tmp_path: Path, content: bytes) -> None:
    folder = write_run(tmp_path, "offline", "pointmass_hard_cql", config=False)
    (folder / "config.yaml").write_bytes(content)
    run = only(collect(tmp_path)).first
    assert (run.env_id, run.algorithm, run.seed) == ("PointmassHard-v0", "cql", 1)
    assert "config.yaml is not valid" in run.notes[0]


def test_missing_data_folder_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--data_dir"):
        collect(tmp_path / "nowhere")


# Questions


def test_exploration_by_dqn_has_a_section(tmp_path: Path) -> None:
    """The handout asks for DQN offline, but it can explore, too."""
    write_run(tmp_path, "explore", "pointmass_easy_dqn")
    (section,) = (one for one in answer(collect(tmp_path)) if one.table is not None)
    assert (section.number, section.title) == ("A.1", "DQN: exploration")
    assert section.table is not None
    assert [row[:2] for row in section.table.rows] == [("Easy", "DQN")]
    assert not section.missing


@pytest.fixture
def algorithms_change() -> Iterator[None]:
    """Let a test register further algorithms, and forget them afterwards."""
    yield
    algorithms.cache_clear()


@pytest.mark.usefixtures("algorithms_change")
@pytest.mark.parametrize("question", [*Question, None])
@pytest.mark.parametrize("stage", Stage)
def test_a_run_of_a_new_algorithm_is_in_one_section(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: Stage,
    question: Question | None,
) -> None:
    new = Algorithm(
        "new", "Novelty", "#225588", frozenset(Stage), (), question, 50, algorithms()["dqn"].config
    )
    monkeypatch.setitem(homework._registered, "new", new)
    algorithms.cache_clear()
    write_run(tmp_path, stage, "pointmass_easy_new")
    (section,) = (one for one in answer(collect(tmp_path)) if one.table is not None)
    assert section.plot is not None
    assert section.table is not None
    (row,) = section.table.rows
    assert ("Novelty" if stage is Stage.EXPLORE else "pointmass_easy_new") in row


def test_every_environment_has_its_curve_of_coverage(tmp_path: Path) -> None:
    """There is one more than there are colours, as when a maze is added."""
    names = [f"Other{number}-v0" for number in range(len(plots.COLOURS_OF_TASKS) + 1)]
    for name in names:
        folder = write_run(tmp_path, "explore", "pointmass_easy_rnd", time=name)
        RunFolder(folder).write_config(
            {"base_config": "rnd", "env_name": name, "exp_name": name, "seed": 1}
        )
    section = exploration(collect(tmp_path), "rnd", "3.2", "RND", "States", columns=1)
    assert section.plot is not None
    (axes,) = section.plot.figure().axes
    assert [line.get_label() for line in axes.get_lines()] == names


def test_every_question_has_its_figure(tmp_path: Path) -> None:
    write_homework(tmp_path)
    sections = answer(collect(tmp_path))
    assert [section.number for section in sections] == QUESTIONS
    assert all(section.plot and section.caption for section in sections)


def test_questions_without_runs_name_commands_whose_files_exist(tmp_path: Path) -> None:
    for section in answer(collect(tmp_path)):
        assert section.plot is None
        assert section.missing
        for _, command in section.missing:
            script, *files = re.findall(r"\S+\.(?:py|yaml)", command)
            assert all((ROOT / path).is_file() for path in (script, *files))
            assert files


def test_sweep_takes_only_runs_that_differ_in_nothing_else(tmp_path: Path) -> None:
    for alpha in (0.0, 1.0):
        write_run(tmp_path, "offline", f"pointmass_hard_cql_a{alpha}", cql_alpha=alpha)
    write_run(tmp_path, "offline", "pointmass_hard_cql_b", cql_alpha=2.0, discount=0.9)
    section = answer(collect(tmp_path))[3]
    assert section.table is not None
    assert [row[2] for row in section.table.rows] == ["0", "1"]


def test_finding_gives_the_return_of_the_best_policy_next_to_the_results(tmp_path: Path) -> None:
    for algorithm, last in (("dqn", -40.04), ("cql", -35.04)):
        write_run(tmp_path, "offline", f"pointmass_hard_{algorithm}", returns=(last,) * 4)
    (finding,) = answer(collect(tmp_path))[2].findings
    optimum = f"{plan('PointmassHard-v0').optimal_return:.1f}"
    expected = f"On Hard DQN ended at -40.0 and CQL ended at -35.0 (best policy {optimum})."
    assert expected in finding.replace("\N{MINUS SIGN}", "-")


def test_dataset_question_shows_coverage_next_to_return(tmp_path: Path) -> None:
    write_homework(tmp_path)
    section = answer(collect(tmp_path))[5]
    assert section.table is not None
    at = section.table.headings.index("Coverage")
    # The last coverage that `write_run` logs.
    assert all(row[at].startswith("40") for row in section.table.rows)


def write_exact(folder: Path, value: float, error: float, step: int) -> None:
    """Adds the exact return of an evaluation to the log of a run."""
    with Logger(RunFolder(folder)) as logger:
        logger.scalars({"exact/return": value, "exact/return_error": error}, step)


def test_exact_returns_take_the_place_of_measured_ones_and_are_marked(tmp_path: Path) -> None:
    for seed, exact in ((1, -20.9), (2, -21.3)):
        folder = write_run(
            tmp_path, "offline", "pointmass_medium_cql", seed=seed, returns=(-23.0,) * 4
        )
        write_exact(folder, exact, 0.01, step=400)
    older = write_run(tmp_path, "offline", "pointmass_medium_iql", returns=(-22.0,) * 4)
    collection = collect([tmp_path])
    cql, iql = sorted(collection.experiments, key=lambda one: one.name)
    assert cql.is_exact
    assert cql.returns == pytest.approx([-20.9, -21.3])
    assert cql.error == pytest.approx(np.hypot(0.01, 0.01) / 2)
    shown = format_final(cql).replace("\N{MINUS SIGN}", "-")
    assert shown == "-21.10 [-21.30, -20.90] (exact)"
    assert not iql.is_exact
    assert format_final(iql).startswith("\N{MINUS SIGN}22.0")
    # An exact return of an earlier evaluation is not the final one.
    write_exact(older, -21.0, 0.01, step=200)
    # With both kinds of runs, an experiment shows what all of them have.
    write_run(tmp_path, "offline", "pointmass_medium_cql", seed=3, returns=(-24.0,) * 4)
    cql, iql = sorted(collect([tmp_path]).experiments, key=lambda one: one.name)
    assert not iql.is_exact
    assert not cql.is_exact
    assert cql.returns == pytest.approx([-23, -23, -24])


def test_size_of_the_data_is_taken_from_the_log(tmp_path: Path) -> None:
    for size, transitions in ((5_000, 500), (20_000, 2_000)):
        folder = write_run(
            tmp_path, "offline", f"pointmass_medium_cql_rnd{size}",
            dataset_name=f"pointmass_medium_rnd_{size}",
        )  # fmt: skip
        with Logger(RunFolder(folder)) as logger:
            logger.scalars({"dataset_transitions": transitions}, 1)
    section = answer(collect(tmp_path))[5]
    assert section.table is not None
    at = section.table.headings.index("Data")
    assert [row[at] for row in section.table.rows] == ["500", "2,000"]


def test_alpha_finding_names_a_minimum_between_the_ends(tmp_path: Path) -> None:
    for alpha, last in ((0.0, -90.0), (1.0, -170.0), (10.0, -140.0)):
        name = f"pointmass_hard_cql_alpha{alpha:g}"
        write_run(tmp_path, "offline", name, returns=(last,) * 4, cql_alpha=alpha)
    (finding,) = answer(collect(tmp_path))[3].findings
    assert "tenth were \N{MINUS SIGN}9.0 at" in finding
    assert "lowest, \N{MINUS SIGN}17.0, at \N{GREEK SMALL LETTER ALPHA} = 1;" in finding
    assert "highest" not in finding


def test_legend_is_read_row_by_row() -> None:
    def panel(ax: Axes) -> None:
        for label in "abcde":
            ax.plot([0, 1], label=label)

    figure = plots.Plot("name", "title", (panel,), columns=1).figure()
    figure.draw_without_rendering()
    (legend,) = figure.legends
    at = {text.get_text(): text.get_window_extent() for text in legend.get_texts()}
    rows: dict[int, str] = {}
    for name, box in sorted(at.items(), key=lambda item: (-round(item[1].y0), item[1].x0)):
        rows[round(box.y0)] = rows.get(round(box.y0), "") + name
    assert list(rows.values()) == ["abcd", "e"]


def test_pictures_in_the_page_are_smooth(report: Path) -> None:
    page = (report / "index.html").read_text()
    svgs = [base64.b64decode(data) for data in re.findall(r"svg\+xml;base64,([\w+/=]+)", page)]
    assert any(b"<image" in svg for svg in svgs)
    assert not any(b"image-rendering" in svg for svg in svgs)


def test_optimum_is_a_line_in_every_panel_of_returns(tmp_path: Path) -> None:
    write_homework(tmp_path)
    optima = {round(plan(env_id).optimal_return, 6) for env_id in MAZES}
    panels = 0
    with plots.style():
        for section in answer(collect(tmp_path)):
            assert section.plot is not None
            for ax in section.plot.figure().axes:
                if "return" in ax.get_ylabel().lower():
                    levels = {
                        round(float(line.get_ydata()[0]), 6)
                        for line in ax.lines
                        if line.get_linestyle() == "--"
                    }
                    assert levels & optima
                    panels += 1
    assert panels == 7


def test_fine_tuning_marks_where_online_begins(tmp_path: Path) -> None:
    write_run(tmp_path, "finetune", "pointmass_hard_cql_finetune", steps=400)
    plot = answer(collect(tmp_path))[6].plot
    assert plot is not None
    with plots.style():
        (ax,) = plot.figure().axes
    (line,) = (line for line in ax.lines if line.get_label() == "online from here")
    assert list(line.get_xdata()) == [200, 200]


def test_online_start_is_found_without_a_config(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "finetune", "pointmass_hard_cql_finetune", config=False)
    with Logger(RunFolder(folder)) as logger:
        logger.scalars({"train_return": -100.0}, 100_050)
    assert only(collect(tmp_path)).first.online_start == 100_050


def test_a_damaged_picture_is_ignored() -> None:
    file = io.BytesIO()
    Figure((1, 1)).savefig(file, format="png")
    assert plots.decode(file.getvalue()) is not None
    assert plots.decode(file.getvalue()[:100]) is None
    assert plots.decode(b"<svg/>") is None


# The files


def test_report_has_a_png_and_a_pdf_of_every_figure(report: Path) -> None:
    figures = sorted(path.name for path in (report / "figures").iterdir())
    assert len(figures) == 2 * len(QUESTIONS)
    for path in (report / "figures").iterdir():
        magic = {".png": b"\x89PNG", ".pdf": b"%PDF"}[path.suffix]
        assert path.read_bytes().startswith(magic)
        assert path.with_suffix(".png").exists()


def test_pdf_has_a_page_for_every_question_and_two_more(report: Path) -> None:
    content = (report / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", content)) >= len(QUESTIONS) + 2


class Page(HTMLParser):
    """Collects the tags of a page, and checks that they nest."""

    VOID = frozenset({"meta", "link", "img", "source", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_needs_nothing_but_itself(report: Path) -> None:
    text = (report / "index.html").read_text()
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in {"script", "iframe", "object", "embed"}
        for name in ("src", "srcset", "href"):
            if value := attributes.get(name):
                assert value.startswith(("data:", "#"))
    assert "url(" not in text
    assert "@import" not in text


def test_links_of_the_page_lead_somewhere(report: Path) -> None:
    page = Page((report / "index.html").read_text())
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert len(ids) == len(set(ids))
    assert {f"#{identity}" for identity in ids} == set(links)


def test_page_shows_runs_settings_and_what_was_left_out(report: Path) -> None:
    text = (report / "index.html").read_text()
    assert "hw5_offline_pointmass_medium_awac_sd2_2026-01-31_12-00-00" in text
    assert "training_steps 400" in text
    assert "belongs to homework 3" in text


def test_names_cannot_put_tags_into_the_page_or_formulas_into_figures(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "data", "offline", "pointmass_hard_cql", config=False)
    folder.rename(folder.with_name("hw5_offline_pointmass_hard_cql_<img src=x>$\\frac{$"))
    build(tmp_path / "data", tmp_path / "out")
    text = (tmp_path / "out" / "index.html").read_text()
    assert "<img src=x>" not in text
    assert html.escape("<img src=x>$\\frac{$") in text


def test_page_works_in_a_browser(report: Path, tmp_path: Path) -> None:
    """Opens the page in Chromium if it is installed, or else checks only its structure."""
    text = (report / "index.html").read_text()
    assert 'name="viewport" content="width=device-width' in text
    assert "prefers-color-scheme: dark" in text
    images = [attributes for tag, attributes in Page(text).tags if tag == "img"]
    assert len(images) == len(QUESTIONS)
    assert all(image["alt"] for image in images)
    if BROWSER is None:
        return
    for width in (390, 1280):
        for scheme, background in ((1, "rgb(251, 251, 250)"), (0, "rgb(20, 21, 24)")):
            found = measure(report / "index.html", tmp_path, width, scheme)
            assert found["images"] == str(len(QUESTIONS))
            assert found["widest"] == str(width)
            assert found["background"] == background


def measure(page: Path, tmp_path: Path, width: int, scheme: int) -> dict[str, str]:
    """Loads a page in a frame of a given width and reads its layout."""
    frame = tmp_path / f"frame_{width}_{scheme}.html"
    frame.write_text(
        f"""<iframe src="{page.as_uri()}" style="border:0;width:{width}px"></iframe>
        <script>onload = () => {{
          const page = document.querySelector("iframe").contentDocument;
          const loaded = [...page.images].filter(image => image.complete && image.naturalWidth);
          Object.assign(document.body.dataset, {{
            images: loaded.length, widest: page.documentElement.scrollWidth,
            background: getComputedStyle(page.body).backgroundColor }}); }}</script>"""
    )
    assert BROWSER is not None
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
            "--hide-scrollbars", "--allow-file-access-from-files",
            f"--blink-settings=preferredColorScheme={scheme}",
            f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000", frame.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    (body,) = (attributes for tag, attributes in Page(done.stdout).tags if tag == "body")
    return {name.removeprefix("data-"): value or "" for name, value in body.items()}


@pytest.mark.parametrize(
    "name", ["{{ 7 * 7 }}", "{% include 'page.css' %}", "{# gone #}", "<script>1</script>", "'\"&"]
)
def test_names_of_runs_are_text_in_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    collection = Collection((), (LeftOut(name, name),))
    monkeypatch.setattr(page, "svg_uri", lambda plot, columns: "data:,")
    sections = answer(collection)
    text = page.render(front_matter(collection, sections, [tmp_path]), sections, collection)
    reader = Page(text)
    assert name in html.unescape(text)
    assert not [tag for tag, _ in reader.tags if tag == "script"]


def test_the_template_is_packaged_with_the_code() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packaged = settings["tool"]["setuptools"]["package-data"]["cs285.report"]
    data = [path for path in (ROOT / "cs285/report").iterdir() if path.suffix not in {"", ".py"}]
    assert {path.name for path in data} == set(packaged)
    assert {path.suffix for path in data} <= CODE_SUFFIXES


def make_report(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "cs285/scripts/make_report.py", *map(str, arguments)],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_script_makes_the_report_of_an_empty_folder(tmp_path: Path) -> None:
    done = make_report("--data_dir", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "0 of 7 figures, from 0 runs." in done.stdout
    assert "run_hw5_finetune.py" in (tmp_path / "out" / "index.html").read_text()
    assert (tmp_path / "out" / "report.pdf").stat().st_size > 0


def test_names_of_folders_cannot_command_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "hw5_offline_\x1b[2Jx_sd1_2026-01-31_12-00-00").mkdir()
    done = make_report("--data_dir", tmp_path, "--out", tmp_path / "out")
    assert "\x1b" not in done.stdout
    assert "left out  hw5_offline_\\x1b[2Jx" in done.stdout


def test_unwritable_output_is_one_sentence_and_status_2(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = make_report("--data_dir", tmp_path, "--out", tmp_path / "file" / "out")
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write to the folder")
    assert done.stderr.count("\n") == 1


def test_colours_of_ordered_values_differ() -> None:
    for count in range(1, 8):
        assert len(set(plots.colours_in_order(count))) == count


def test_every_colour_of_the_plots_has_one_for_dark_screens(report: Path) -> None:
    write_homework(report.parent / "again")
    white = {"#ffffff"}
    with plots.style():
        for section in answer(collect(report.parent / "again")):
            assert section.plot is not None
            if not section.plot.is_picture:
                svg = section.plot.bytes("svg").decode().lower()
                used = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", svg))
                assert used - white <= {colour.lower() for colour in plots.ON_DARK}
    assert np.unique(list(plots.ON_DARK.values())).size == len(plots.ON_DARK)
