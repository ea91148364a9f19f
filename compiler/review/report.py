"""A plan diff as text for a terminal, as Markdown for a pull request, or as JSON for machines."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.render import environment
from compiler.review.diff import HostDiff, PlanDiff
from schema.problem import Problem

COMMENT_LIMIT = 60_000
"""Characters. GitHub rejects a comment of more than 65,536."""
MARKER = "<!-- gitwan plan -->"
"""Identifies the comment of the pull request."""


def text_report(diff: PlanDiff) -> str:
    """A block for each host, then the number of hosts that are not touched."""
    lines: list[str] = []
    for host in diff.hosts:
        lines += [f"{host.host:<12} {_summary(host):<44} disruption: {host.disruption.text}".rstrip()]
        lines += [f"  {line}" for line in host.settings]
        for step in host.steps:
            cost = f"   ({step.cost})" if step.disruption else ""
            lines.append(f"  {step.change.describe()}{cost}")
    count = f"{diff.untouched} host{'' if diff.untouched == 1 else 's'} not touched"
    return "\n".join([*lines, count if diff.hosts else f"no change: {count}"]) + "\n"


def markdown_report(diff: PlanDiff, problems: Sequence[Problem] = (), compiled: bool = True) -> str:
    """A comment for a pull request, shortened if necessary. `compiled` says whether there are plans."""
    template = environment().get_template("comment.md.j2")
    shown = list(diff.hosts)
    words = {"marker": MARKER, "summary": _summary, "problems": problems, "compiled": compiled}
    while True:
        left = len(diff.hosts) - len(shown)
        text = template.render(diff=diff, shown=shown, left=left, **words)
        if len(text) <= COMMENT_LIMIT or not shown:
            return text[:COMMENT_LIMIT]
        shown = shown[: len(shown) // 2]


def json_report(diff: PlanDiff, problems: Sequence[Problem] = ()) -> dict[str, object]:
    """The diff as plain data, and the problems of the new revision."""
    return {
        "problems": [problem.json() for problem in problems],
        "disruption": diff.disruption.name.lower(),
        "untouched": diff.untouched,
        "hosts": [
            {
                "host": host.host,
                "state": "new" if host.new else "gone" if host.gone else "changed",
                "disruption": host.disruption.name.lower(),
                "settings": list(host.settings),
                "changes": [
                    {
                        "verb": step.change.verb,
                        "kind": step.change.resource.kind,
                        "key": list(step.change.resource.key),
                        "before": step.change.before and step.change.before.model_dump(exclude_none=True),
                        "after": step.change.after and step.change.after.model_dump(exclude_none=True),
                        "disruption": step.disruption.name.lower(),
                    }
                    for step in host.steps
                ],
            }
            for host in diff.hosts
        ],
    }


def _summary(host: HostDiff) -> str:
    words = [
        f"{count} {name}"
        for verb, name in (("create", "added"), ("change", "changed"), ("delete", "removed"))
        if (count := host.count(verb))
    ]
    words += ["settings"] if host.settings else []
    prefix = "new host: " if host.new else "host goes: " if host.gone else ""
    return prefix + ", ".join(words)
