"""Pictures show a maze like its text map: row 0 on top, columns to the right, square cells."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from cs285.envs.maze_figures import (
    aux_figure,
    coverage_figure,
    draw_maze,
    exploration_figure,
    trajectories_figure,
)
from cs285.envs.mazes import MAZES, Maze, get_maze
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.palette import WALL
from cs285.results.figures import learning_curve_figure, save_png

# Written out here, independently of the code: the scale factor and the unscaled map.
TEXT_MAPS = {
    "PointmassEasy-v0": (2, "..... ####. ####. ####. ####."),
    "PointmassMedium-v0": (1, "..#... #.#.#. ..#.## .##..# ..##.# #....#"),
    "PointmassHard-v0": (
        2,
        """.....#..... .....#..... ........... .....#..... .....#..... #.####.....
        .....###.## .....#..... .....#..... ........... .....#.....""",
    ),
    "PointmassVeryHard-v0": (
        1,
        """.#...#...#. .#.#.#.#.#. .#.#.#.#.#. .#.#.#.#.#. ...#...#.#. ########.#.
        ###...#..#. ###.#.#.##. ....#...##. .#########. ...........""",
    ),
}


def walls_of(env_id):
    factor, text = TEXT_MAPS[env_id]
    return [
        [char == "#" for char in line for _ in range(factor)]
        for line in text.split()
        for _ in range(factor)
    ]


@pytest.fixture
def oblong():
    """A maze of 2 rows and 6 columns, in which a swap of rows and columns cannot hide."""
    walls = np.zeros((2, 6), bool)
    walls[0, 4] = True
    return Maze("Oblong-v0", "oblong", "Oblong", walls, (0.5, 0.5), (1.5, 5.5), 0.4, 10)


class Plotter:
    """An agent whose picture has one bright cell, and leaves its axes upside down and stretched."""

    def __init__(self, maze, cell, plots=1):
        self.maze, self.cell, self.plots = maze, cell, plots

    def num_aux_plots(self):
        return self.plots

    def plot_aux(self, axes):
        assert len(axes) == self.plots
        errors = np.zeros(self.maze.walls.shape)
        errors[self.cell] = 1
        for ax in axes:
            ax.imshow(errors, extent=(0, 1, 1, 0), cmap="gray", interpolation="nearest")
            ax.set(xlim=(1, 0), ylim=(-0.5, 2), aspect="auto")


def pixels_of(figure, ax):
    """Render, and return the pixels within the axes, top row first, as floats (h, w, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = np.asarray(canvas.buffer_rgba())[..., :3] / 255
    left, bottom, right, top = np.round(ax.get_window_extent().extents).astype(int)
    return image[len(image) - top : len(image) - bottom, left:right]


def pixel(image, row, col):
    """Return the colour at a point given as fractions of the picture from the top and the left."""
    return image[int(row * image.shape[0]), int(col * image.shape[1])]


def is_hidden(maze, row, col):
    """Return whether the start or the goal covers the point."""
    return (
        np.hypot(row - maze.goal[0], col - maze.goal[1]) < maze.goal_radius + 0.2
        or np.hypot(row - maze.start[0], col - maze.start[1]) < maze.height / 12
    )


def saturated(image):
    return image.max(axis=2) - image.min(axis=2) > 0.3


@pytest.mark.parametrize("env_id", MAZES)
def test_wall_pixels_are_where_the_text_map_has_walls(env_id):
    maze, walls = get_maze(env_id), walls_of(env_id)
    figure = Figure(figsize=(5, 5))
    ax = figure.add_subplot()
    draw_maze(ax, maze)
    image = pixels_of(figure, ax)
    size, seen = len(walls), 0
    for i in range(size):
        for j in range(size):
            row, col = i + 0.7, j + 0.3
            if not is_hidden(maze, row, col):
                expected = to_rgb(WALL) if walls[i][j] else (1, 1, 1)
                np.testing.assert_allclose(
                    pixel(image, row / size, col / size), expected, atol=0.01
                )
                seen += 1
    assert seen > 0.7 * size**2


@pytest.mark.parametrize("env_id", MAZES)
def test_outline_runs_between_wall_and_free_cells(env_id):
    maze, walls = get_maze(env_id), walls_of(env_id)
    ax = Figure().add_subplot()
    draw_maze(ax, maze, outline=True)
    size = len(walls)
    expected = set()
    for i in range(size):
        for j in range(size):
            if i + 1 < size and walls[i][j] != walls[i + 1][j]:
                expected.add(((j, i + 1), (j + 1, i + 1)))
            if j + 1 < size and walls[i][j] != walls[i][j + 1]:
                expected.add(((j + 1, i), (j + 1, i + 1)))
    lines = [artist for artist in ax.collections if isinstance(artist, LineCollection)]
    assert lines
    for line in lines:
        segments = np.round(np.array(line.get_segments()) * size).astype(int)
        assert {tuple(map(tuple, segment)) for segment in segments.tolist()} == expected


def test_cells_are_square_in_an_oblong_maze(oblong):
    figure = Figure(figsize=(6, 6))
    ax = figure.add_subplot()
    draw_maze(ax, oblong)
    height, width, _ = pixels_of(figure, ax).shape
    assert width == pytest.approx(3 * height, abs=3)
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 1), (1, 0))


def test_start_and_goal_are_at_their_places(oblong):
    ax = Figure().add_subplot()
    draw_maze(ax, oblong)
    letters = {text.get_text(): text.get_position() for text in ax.texts}
    assert letters["S"] == pytest.approx((0.5 / 6, 0.5 / 2))
    assert letters["G"] == pytest.approx((5.5 / 6, 1.5 / 2))
    (disc,) = ax.patches
    assert disc.get_center() == pytest.approx((5.5 / 6, 1.5 / 2))
    assert (disc.get_width(), disc.get_height()) == pytest.approx((0.8 / 6, 0.8 / 2))


def test_visited_states_land_in_their_pixels(oblong):
    figure = coverage_figure(oblong, np.array([[1.5 / 2, 2.5 / 6]] * 20, np.float32))
    rows, cols = np.nonzero(saturated(image := pixels_of(figure, figure.axes[0])))
    height, width, _ = image.shape
    near = (np.abs(rows / height - 0.75) < 0.05) & (np.abs(cols / width - 2.5 / 6) < 0.05)
    in_start = cols < width / 6
    in_goal = (cols > width * 5 / 6) & (rows > height / 2)
    assert near.sum() > 3
    assert (near | in_start | in_goal).all()


def test_first_visit_of_a_place_stays_visible(oblong):
    place = [[0.75, 0.4]]
    crowd = np.array(place + [[0.75, 0.6]] * 500 + place + [[0.75, 0.8]], np.float32)
    (points,) = coverage_figure(oblong, crowd).axes[0].collections
    drawn = points.get_offsets()[:, 0]
    steps = points.get_array()[np.isclose(drawn, 0.4)]
    assert steps.tolist() == [502, 1]


def test_coverage_is_shown_as_a_fraction_of_the_free_cells(oblong):
    figure = coverage_figure(oblong, np.array([[0.1, 0.1], [0.9, 0.9]]), title="random")
    # Two of eleven free cells.
    assert figure.axes[0].get_title() == "random\n18% of free cells visited"


def test_agents_picture_lands_in_its_pixels_on_the_same_axes(oblong):
    figure = exploration_figure(oblong, np.array([[0.2, 0.4]]), Plotter(oblong, (1, 2)))
    states, errors = (ax for ax in figure.axes if ax.get_label() != "<colorbar>")
    assert (errors.get_xlim(), errors.get_ylim()) == ((0, 1), (1, 0))
    image = pixels_of(figure, errors)
    assert pixel(image, 0.75, 2.5 / 6) == pytest.approx(1)
    for row, col in ((0.25, 2.5 / 6), (0.75, 3.5 / 6), (0.75, 1.5 / 6), (0.25, 3.3 / 6)):
        assert pixel(image, row, col) == pytest.approx(0)
    assert states.get_aspect() == errors.get_aspect()


def test_agent_gets_as_many_axes_as_it_asks_for(oblong):
    assert len(aux_figure(oblong, Plotter(oblong, (0, 0), plots=3)).axes) == 3


@pytest.mark.parametrize("agent", [None, object()])
def test_agent_without_pictures_leaves_the_visited_states_alone(oblong, agent):
    figure = exploration_figure(oblong, np.array([[0.2, 0.4]]), agent)
    assert len([ax for ax in figure.axes if ax.get_label() != "<colorbar>"]) == 1


def test_trajectories_run_along_their_states(oblong):
    paths = [
        np.array([[0.5, 0.5], [1.5, 1.5], [1.5, 5.4]]) / (2, 6),
        np.array([[0.5, 0.5], [0.5, 3.0]]) / (2, 6),
    ]
    figure = trajectories_figure(oblong, paths, [-1.0, -10.0], title="CQL", online_start=1000)
    (ax,) = figure.axes
    first, first_end, second, second_end = ax.lines
    np.testing.assert_allclose(first.get_xdata(), [0.5 / 6, 1.5 / 6, 5.4 / 6])
    np.testing.assert_allclose(first.get_ydata(), [0.5 / 2, 1.5 / 2, 1.5 / 2])
    np.testing.assert_allclose(second.get_xdata(), [0.5 / 6, 3.0 / 6])
    np.testing.assert_allclose(second.get_ydata(), [0.5 / 2, 0.5 / 2])
    assert (first_end.get_marker(), second_end.get_marker()) == ("o", "X")
    assert first.get_color() != second.get_color()
    title = "CQL\nmean return \N{MINUS SIGN}5.5 over 2 episodes, online since step 1,000"
    assert ax.get_title() == title


def test_eighteen_trajectories_look_different(oblong):
    path = np.array([[0.25, 0.1], [0.25, 0.3]])
    figure = trajectories_figure(oblong, [path] * 18, [-1.0] * 18)
    styles = {(line.get_color(), line.get_linestyle(), str(line._dash_pattern))
              for line in figure.axes[0].lines[::2]}  # fmt: skip
    assert len(styles) == 18


def test_learning_curve_shows_both_limits_and_the_switch_to_online():
    figure = learning_curve_figure([0, 100, 200], [-90, -50, -40], -32.8, -97.25, online_start=100)
    (ax,) = figure.axes
    curve, best, random, switch = (np.array(line.get_data()).T.tolist() for line in ax.lines)
    assert curve == [[0, -90], [100, -50], [200, -40]]
    assert [y for _, y in best] == [-32.8, -32.8]
    assert [y for _, y in random] == [-97.25, -97.25]
    assert [x for x, _ in switch] == [100, 100]
    assert any("online" in text.get_text() for text in ax.texts)
    bottom, top = ax.get_ylim()
    assert bottom < -97.25
    assert top > -32.8


def test_learning_curve_without_online_training_has_no_switch():
    (ax,) = learning_curve_figure([0, 1], [-9, -5], -3, -9).axes
    assert len(ax.lines) == 3
    assert not any("online" in text.get_text() for text in ax.texts)


def test_learning_curve_of_an_environment_without_known_limits_shows_the_returns_alone():
    (ax,) = learning_curve_figure([0, 100], [20, 500]).axes
    (curve,) = ax.lines
    assert np.array(curve.get_data()).T.tolist() == [[0, 20], [100, 500]]
    assert not ax.texts


def test_figures_leave_nothing_behind_in_pyplot(oblong, tmp_path):
    plt.close("all")
    states = np.array([[0.2, 0.4], [0.3, 0.4]])
    for figure in (
        exploration_figure(oblong, states, Plotter(oblong, (0, 0))),
        trajectories_figure(oblong, [states], [-1.0]),
        learning_curve_figure([0], [-1.0], -1.0, -2.0),
    ):
        save_png(figure, tmp_path / "figure.png")
        assert plt.get_fignums() == []


def test_saved_png_opens_and_a_failed_one_keeps_the_old(tmp_path):
    path = tmp_path / "figure.png"
    save_png(Figure(figsize=(2, 1)), path)
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", (300, 150))
    before = path.read_bytes()

    class Broken(Figure):
        def savefig(self, *args, **kwargs):
            args[0].write(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="no space left"):
        save_png(Broken(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
