"""What the three scripts share: flags in, runs out, programs trained one after the other."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import NoReturn

from cs285.compiling import CHOICES
from cs285.homework import STAGES, Stage
from cs285.infrastructure import console
from cs285.infrastructure.errors import DivergenceError, UserError, is_unwritten
from cs285.scripts.arguments import ArgumentParser, at_least
from cs285.training.commands import resume, train
from cs285.training.interruption import StoppedError


def main(stage: Stage, description: str) -> NoReturn:
    """Run one of the three scripts and exit.

    The status is 0 when all went well, 1 when a run diverged, 2 on bad input, 130 after Ctrl-C and
    143 after SIGTERM.

    Args:
        stage: What the script does.
        description: What `--help` says.
    """
    console.forgive()
    parser = make_parser(stage, description)
    arguments = parser.parse_args()
    try:
        if arguments.resume is None:
            train(stage, arguments)
        else:
            if arguments != parser.parse_args(["--resume", str(arguments.resume)]):
                raise UserError("--resume goes on with the flags of the start; give it alone")  # noqa: TRY301 - told like all others
            resume(stage, arguments.resume)
    except UserError as error:
        _exit(2, f"error: {error}")
    except DivergenceError as error:
        _exit(1, f"error: {error}")
    except NotImplementedError as error:
        # A starter's methods raise it until they are written.
        if not is_unwritten(error):
            raise
        _exit(1, f"error: {error}")
    except StoppedError as error:
        _exit(128 + error.signum, str(error))
    except KeyboardInterrupt:
        _exit(130, "Stopped.")
    sys.exit(0)


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
        help="go on with the run of this folder, and all that the same command trains",
    )
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=at_least(0), help="seed of the run; 1 if no file says more")
    seeds.add_argument(
        "--seeds",
        type=at_least(0),
        nargs="+",
        action="extend",
        help="train every file with each of these seeds",
    )
    add("--dataset_dir", type=Path, default=Path("datasets"), help="where datasets lie")
    add("--data_dir", type=Path, default=Path("data"), help="where run folders go")
    add(
        "--visualization_dir",
        type=Path,
        default=Path("exploration_visualization"),
        help="where pictures of explored datasets go",
    )
    positive = at_least(1)
    add("--eval_interval", "-ei", type=positive, default=2_500, help="steps between evaluations")
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
        default=20,
        help="episodes of an evaluation; in learning, the last one takes five times as many",
    )
    add("--log_interval", type=positive, default=1_000, help="steps between logged metrics")
    add(
        "--use_reward",
        action="store_true",
        help="let RND add the environment's reward to its bonus",
    )
    add(
        "--compile",
        choices=CHOICES,
        default="auto",
        help="compile updates: auto does where that takes less time than it saves",
    )
    add(
        "--workers",
        type=_workers,
        default="auto",
        help="processes to train in, one core each: a number, or auto",
    )
    add(
        "--checkpoint_interval",
        type=at_least(0),
        metavar="STEPS",
        help="steps between checkpoints for --resume: one a minute if not given, 0 for none but on "
        "Ctrl-C",
    )
    add("--steps_fraction", type=_fraction, default=1.0, help="take only this part of all steps")
    add("--no_gpu", "-ngpu", action="store_true", help="stay on the CPU")
    add("--which_gpu", "-gpu_id", type=at_least(0), default=0, help="index of the GPU")
    return parser


def _workers(text: str) -> str:
    try:
        return text if text == "auto" else str(at_least(1)(text))
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
