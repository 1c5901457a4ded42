"""The flags of the three training scripts, and the call of `cs285.training.door`."""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path
from typing import Literal, NoReturn, get_args

from cs285.homework import STAGES, Stage
from cs285.infrastructure.errors import DivergenceError, UserError, is_unwritten
from cs285.results import sinks
from cs285.scripts.arguments import ArgumentParser, at_least
from cs285.training import console, interruption
from cs285.training.interruption import StoppedError
from cs285.training.options import Compile, Options
from cs285.training.stages import Plan

RESUME_FILE = "CS285_RESUME_FILE"
"""Variable with the path of a file to which a stopped script appends the command that resumes."""


def main(stage: Stage, description: str, plan: Plan | None = None) -> NoReturn:
    """Run one of the three scripts and exit.

    The status is 0 on success, 1 if a run diverged, 2 on bad input, 130 after Ctrl-C and 143 after
    SIGTERM.

    Args:
        stage: The stage that the script trains.
        description: The description in `--help`.
        plan: Requests the steps of fine-tuning.
    """
    console.forgive()
    parser = make_parser(stage, description)
    arguments = parser.parse_args()
    try:
        if arguments.resume is not None:
            alone = parser.parse_args(["--resume", str(arguments.resume)])
            if arguments != alone:
                raise UserError("--resume uses the flags of the first start; give it alone")  # noqa: TRY301 - reported like all others
        run(stage, arguments, plan)
    except UserError as error:
        _exit(2, f"error: {error}")
    except DivergenceError as error:
        _exit(1, f"error: {error}")
    except NotImplementedError as error:
        # The starter's methods raise it until they are written.
        if not is_unwritten(error):
            raise
        _exit(1, f"error: {error}")
    except StoppedError as error:
        _note(error.command)
        _exit(128 + error.signum, str(error))
    except KeyboardInterrupt:
        _exit(130, "Stopped.")
    sys.exit(0)


def run(stage: Stage, arguments: argparse.Namespace, plan: Plan | None = None) -> None:
    """Train or resume the runs that the parsed flags request.

    Raises:
        UserError: If any input is not usable.
        DivergenceError: If runs diverged.
        StoppedError: After Ctrl-C or SIGTERM.
    """
    from cs285.training import door  # imports PyTorch, which `--help` does not need

    interruption.exit_on_second_press()
    flags = vars(arguments).copy()
    if flags.pop("num_render_trajectories") is not None:
        print(
            "--num_render_trajectories has no effect: pictures show the paths of episodes, "
            "and there are no videos",
            file=sys.stderr,
        )
    folder, configs, seed = (flags.pop(name) for name in ("resume", "config_file", "seed"))
    if folder is not None:
        results = door.resume(folder, stage=stage, plan=plan)
    else:
        flags["seeds"] = flags["seeds"] if seed is None else [seed]
        results = door.train(configs, stage=stage, plan=plan, **flags)
    if results.diverged:
        raise DivergenceError(
            f"diverged: {', '.join(results.diverged)}; all other runs are complete"
        )


def _note(command: str) -> None:
    """Append the command that resumes to the file in `$CS285_RESUME_FILE`, if there is one."""
    if command and (file := os.environ.get(RESUME_FILE)):
        try:
            with Path(file).open("a") as notes:
                notes.write(f"{command}\n")
        except OSError as error:
            print(f"cannot write to {file}: {error.strerror}", file=sys.stderr)


def _exit(status: int, message: str) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(status)


def make_parser(stage: Stage, description: str) -> ArgumentParser:
    """Make the parser of one script."""
    parser = ArgumentParser(description)
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "-cfg", "--config_file", type=Path, nargs="+", action="extend", help="YAML file(s)"
    )
    what.add_argument(
        "--resume",
        type=Path,
        metavar="RUN_FOLDER",
        help="resume the run in this folder, and all other runs of its command",
    )
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument(
        "--seed", type=at_least(0), help="seed of every run; default: the file's, else 1"
    )
    seeds.add_argument(
        "--seeds",
        type=at_least(0),
        nargs="+",
        action="extend",
        help="train every file with each of these seeds",
    )
    add("--dataset_dir", type=Path, default=Options.dataset_dir, help="folder of datasets")
    add("--data_dir", type=Path, default=Options.data_dir, help="folder for run folders")
    add(
        "--visualization_dir",
        type=Path,
        default=Options.picture_dir,
        help="folder for pictures of explored datasets",
    )
    positive = at_least(1)
    add(
        "--eval_interval",
        "-ei",
        type=positive,
        default=Options.eval_interval,
        help="steps between evaluations",
    )
    add(
        "--visualize_interval",
        "-vi",
        type=positive,
        default=STAGES[Stage(stage)].visualize_interval,
        help="steps between pictures",
    )
    add(
        "--num_eval_trajectories",
        "-neval",
        type=positive,
        default=Options.num_eval_trajectories,
        help="episodes per evaluation; in learning, the last one takes five times as many",
    )
    add(
        "--num_render_trajectories",
        "-nvid",
        type=at_least(0),
        metavar="N",
        help="no effect, since there are no videos; accepted for commands of the public starter",
    )
    add(
        "--log_interval",
        type=positive,
        default=Options.log_interval,
        help="steps between logged metrics",
    )
    add(
        "--log",
        type=_sinks,
        default=",".join(sinks.DEFAULT),
        metavar="SINKS",
        help="where to log scalars and pictures, separated by commas: " + ", ".join(sinks.sinks()),
    )
    add(
        "--use_reward",
        action="store_true",
        help="add the environment's reward to RND's bonus",
    )
    add(
        "--compile",
        choices=get_args(Compile),
        default=Options.compile,
        help="compile updates; auto: if that takes less time than it saves",
    )
    add(
        "--workers",
        type=_workers,
        default="auto",
        help="number of processes to train in, one core each, or auto",
    )
    add(
        "--checkpoint_interval",
        type=at_least(0),
        metavar="STEPS",
        help="steps between checkpoints for --resume; default: one per minute; 0: only on Ctrl-C",
    )
    add(
        "--steps_fraction", type=_fraction, default=1.0, help="take only this fraction of all steps"
    )
    add("--no_gpu", "-ngpu", action="store_true", help="use the CPU")
    add("--which_gpu", "-gpu_id", type=at_least(0), default=0, help="index of the GPU")
    return parser


def _sinks(text: str) -> tuple[str, ...]:
    try:
        return sinks.check_names(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("--log ")) from None


def _workers(text: str) -> int | Literal["auto"]:
    try:
        return "auto" if text == "auto" else at_least(1)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"must be auto, or {error}") from None


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number above 0 and at most 1, not {text!r}")
    return value
