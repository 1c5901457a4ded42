"""The report as one web page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from cs285.homework import title_of
from cs285.report.collection import Collection, Run, Setting
from cs285.report.plots import Plot, svg_uri
from cs285.report.questions import Section, Table
from cs285.report.words import Front

_STYLE = """
:root { color-scheme: light dark; --back: #fbfbfa; --card: #ffffff; --ink: #1a1a1a; --soft: #5b5e66;
  --line: #e2e2df; --accent: #00609c; --code: #f1f1ee; --warn: #a33b00; }
@media (prefers-color-scheme: dark) { :root { --back: #141518; --card: #1c1e22; --ink: #e8e8ea;
  --soft: #a2a5ad; --line: #34363c; --accent: #6cbcf2; --code: #26282d; --warn: #f58549; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main, header, footer { max-width: 68rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.5rem; }
h1 { font-size: clamp(1.6rem, 5vw, 2.3rem); line-height: 1.15; margin: 0 0 .5rem;
  text-wrap: balance; }
h2 { font-size: 1.35rem; line-height: 1.25; margin: 0 0 1rem; }
h2 .number { color: var(--soft); font-weight: 500; margin-right: .6ch; }
h3 { font-size: 1.02rem; margin: 1.6rem 0 .5rem; }
a { color: var(--accent); }
p { margin: 0 0 .8rem; max-width: 46rem; overflow-wrap: anywhere; }
.soft { color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: .4rem; margin: 1.2rem 0 1.6rem; }
nav a { text-decoration: none; padding: .25rem .7rem; border: 1px solid var(--line);
  font-size: .9rem; border-radius: 99px; background: var(--card); }
nav a:hover { border-color: var(--accent); }
nav a.open { color: var(--soft); border-style: dashed; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px;
  padding: 1.5rem; margin: 0 0 1.4rem; scroll-margin-top: 1rem; }
figure { margin: 0; }
figure img { display: block; width: 100%; height: auto; margin: 0 auto 1rem; }
figure.picture img { background: #fff; border-radius: 10px; padding: .6rem; }
figcaption { max-width: 52rem; font-size: .95rem; margin-bottom: 1.2rem; }
figcaption p { max-width: none; }
ul { margin: 0; padding-left: 1.2rem; }
.scroll { overflow-x: auto; margin: 0 0 1rem; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums;
  min-width: 100%; }
th, td { padding: .38rem .9rem .38rem 0; text-align: left; vertical-align: baseline;
  white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; border-bottom-color: var(--soft); }
th.n, td.n { text-align: right; padding: .38rem 0 .38rem .9rem; }
td.wrap { white-space: normal; min-width: 14rem; overflow-wrap: anywhere; }
tbody tr:last-child td { border-bottom: 0; }
pre { background: var(--code); border-radius: 8px; padding: .8rem 1rem; margin: 0 0 .9rem;
  font-size: .85rem; line-height: 1.5; white-space: pre-wrap; overflow-wrap: anywhere; }
pre, code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.missing { border-left: 3px solid var(--warn); padding-left: 1rem; }
.missing p { margin-bottom: .4rem; }
summary { cursor: pointer; font-weight: 600; padding: .3rem 0; }
footer { padding-bottom: 3rem; font-size: .88rem; }
@media (max-width: 640px) { main, header, footer { padding-left: .8rem; padding-right: .8rem; }
  header { padding-top: 1.5rem; } section { padding: 1rem; border-radius: 10px; }
  thead { display: none; }
  tr { display: flex; flex-wrap: wrap; gap: .1rem .9rem; padding: .45rem 0;
    border-bottom: 1px solid var(--line); }
  tbody tr:last-child { border-bottom: 0; }
  td, td.n { border: 0; padding: 0; text-align: left; white-space: normal;
    overflow-wrap: anywhere; }
  td { font-weight: 600; } td.n { font-weight: 400; } td.wrap { font-weight: 400; width: 100%; }
  td:empty { display: none; }
  td.n::before { content: attr(data-label) "\\00a0"; color: var(--soft); } }
@media print { section { break-inside: avoid; border: 0; padding: 0; } nav { display: none; } }
"""


def render(front: Front, sections: Sequence[Section], collection: Collection) -> str:
    """Return the page; call within `plots.style`."""
    body = [
        _header(front, sections, collection),
        "<main>",
        _overview(front),
        *map(_section, sections),
        _runs(collection.runs),
        _settings(collection),
        _left_out(collection),
        "</main>",
        f"<footer class=soft><p>{escape(front.footer)}</p></footer>",
    ]
    # The policy keeps a browser from requesting anything, whatever names of runs may contain.
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(front.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(filter(None, body))
        + "\n</body>\n</html>\n"
    )


def _header(front: Front, sections: Sequence[Section], collection: Collection) -> str:
    links = [
        f'<a href="#{section.anchor}"{"" if section.plot else " class=open"}>'
        f"{escape(section.number)} {escape(section.title)}</a>"
        for section in sections
    ]
    links += ['<a href="#runs">Runs</a>', '<a href="#settings">Hyperparameters</a>']
    if collection.left_out:
        links.append('<a href="#left-out">Left out</a>')
    return (
        f"<header><h1>{escape(front.title)}</h1>"
        f"<p class=soft>{escape(front.subtitle)}</p><nav>{''.join(links)}</nav></header>"
    )


def _overview(front: Front) -> str:
    content = _table(front.results) if front.results else "<p>No run has a final return yet.</p>"
    return (
        f"<section><h2>Results</h2>{content}<p class=soft>{escape(front.explanation)}</p></section>"
    )


def _section(section: Section) -> str:
    number, title = escape(section.number), escape(section.title)
    parts = [f'<section id="{section.anchor}"><h2><span class=number>{number}</span>{title}</h2>']
    if section.plot:
        parts.append(_figure(section.plot, section))
    if section.table:
        parts.append(_table(section.table))
    if section.missing:
        parts.append("<div class=missing>")
        for what, command in section.missing:
            parts.append(f"<p>No runs yet: {escape(what)}. This makes them:</p>")
            parts.append(f"<pre><code>{escape(command)}</code></pre>")
        parts.append("</div>")
    return "".join([*parts, "</section>"])


def _figure(plot: Plot, section: Section) -> str:
    width, height = plot.size(plot.columns)
    findings = "".join(f"<li>{escape(finding)}</li>" for finding in section.findings)
    wide, narrow = svg_uri(plot, plot.columns), svg_uri(plot, 1)
    # A panel is at most half as large again as on paper, or its letters would look like headings.
    return (
        f"<figure{' class=picture' if plot.is_picture else ''}><picture>"
        f'<source media="(max-width: 640px)" srcset="{narrow}">'
        f'<img src="{wide}" width="{100 * width:.0f}" height="{100 * height:.0f}" '
        f'style="max-width:{width * 1.25 * 96:.0f}px" alt="{escape(plot.title)}"></picture>'
        f"<figcaption><p>{escape(' '.join(section.caption))}</p><ul>{findings}</ul></figcaption>"
        "</figure>"
    )


def _table(table: Table, wrap: int | None = None) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        parts = []
        for at, (text, heading) in enumerate(zip(row, table.headings, strict=True)):
            kind = " class=n" if at >= table.first_number else " class=wrap" if at == wrap else ""
            # Phones show rows as cards, where every number carries its own heading.
            label = f' data-label="{escape(heading)}"' if kind == " class=n" else ""
            parts.append(f"<{tag}{kind}{label}>{escape(text)}</{tag}>")
        return "".join(parts)

    rows = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in table.rows)
    # A box that scrolls must be reachable by keyboard.
    return (
        f'<div class=scroll tabindex="0"><table><thead><tr>{cells(table.headings, "th")}</tr>'
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def _runs(runs: Sequence[Run]) -> str:
    rows = []
    for run in runs:
        minutes = "" if run.wall_time_s is None else f"{run.wall_time_s / 60:.1f}"
        seed = "" if run.seed is None else str(run.seed)
        steps = f"{run.steps:,}" if run.curves else ""
        rows.append((run.name, "; ".join(run.notes), run.started, seed, steps, minutes))
    table = Table(
        ("Run", "Left out of it", "Started", "Seed", "Steps", "Minutes"),
        tuple(rows),
        first_number=3,
    )
    content = _table(table, wrap=1) if rows else "<p>There are none.</p>"
    return (
        f'<section id="runs"><h2>Runs</h2><details><summary>{len(runs)} '
        f"run{'s' * (len(runs) != 1)} in this report</summary>{content}</details></section>"
    )


def _settings(collection: Collection) -> str:
    """Show, per stage and algorithm, what all experiments share and in what they differ."""
    groups: dict[tuple[str, str], dict[str, dict[str, Setting]]] = {}
    for experiment in collection.experiments:
        first = experiment.first
        members = groups.setdefault((first.stage, first.algorithm), {})
        members[experiment.name] = first.settings
    parts = []
    for (stage, algorithm), members in groups.items():
        keys = list(dict.fromkeys(key for settings in members.values() for key in settings))
        values = {key: [_shown(settings.get(key)) for settings in members.values()] for key in keys}
        shared = {key: column[0] for key, column in values.items() if len(set(column)) == 1}
        differing = [key for key in keys if key not in shared]
        title = f"{title_of(algorithm)}, {stage}"
        parts.append(f"<h3>{escape(title)}</h3>")
        if shared:
            text = ", ".join(f"{key} {value}" for key, value in shared.items())
            parts.append(f"<p>{escape(text)}</p>")
        if differing:
            rows = [
                (name, *(_shown(settings.get(key)) for key in differing))
                for name, settings in members.items()
            ]
            parts.append(_table(Table(("Experiment", *differing), tuple(rows), first_number=1)))
        if not keys:
            parts.append("<p class=soft>These runs have no config.yaml.</p>")
    content = "".join(parts) or "<p>There are none.</p>"
    return (
        '<section id="settings"><h2>Hyperparameters</h2><details><summary>All settings of all '
        f"experiments</summary>{content}</details></section>"
    )


def _left_out(collection: Collection) -> str:
    if not collection.left_out:
        return ""
    table = Table(("Run", "Reason"), collection.left_out, first_number=2)
    return f'<section id="left-out"><h2>Left out</h2>{_table(table, wrap=1)}</section>'


def _shown(value: Setting) -> str:
    if value is None:
        return "\N{EM DASH}"
    return f"{value:g}" if isinstance(value, float) else str(value)
