"""Turns the rounds of a run into a table of ratios (Markdown) and a record (JSON)."""
import datetime
import os
import platform
import statistics
import subprocess

import snapshots

OTHERS = ("passthrough_ll", "qsd", "plain")
RESULTS_HEADER = """\
# Results of tools/bench

Newest section last; each was appended by `tools/bench/run.sh --append-results`.
A ratio is Cairn's figure divided by the other's in the same round; the table gives the median
over the rounds. `goal` is the smallest ratio that counts as met, in the order passthrough_ll,
qemu-storage-daemon. Compare ratios between sections, not absolute figures: those drift with the
machine and the hour.
"""


def machine():
    """What a reader needs to judge the figures."""
    model = "unknown"
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release()}


def commit(project):
    """The checkout's commit, marked when the tree differs from it."""
    def git(*words):
        done = subprocess.run(["git", "-C", project, *words], capture_output=True, text=True,
                              check=False)
        return done.stdout.strip() if done.returncode == 0 else None
    head = git("rev-parse", "--short", "HEAD")
    if head is None:
        return "unknown"
    return head + ("+changes" if git("status", "--porcelain") else "")


def summarise(job, backing, rounds):
    """`rounds`: a list of {target: figure or None}. Medians, ratios and the verdict."""
    goals = job.goals if backing == job.goal_backing else {}
    ratios = {}
    for other in OTHERS:
        pairs = [(each["cairn"], each[other]) for each in rounds
                 if each.get("cairn") and each.get(other)]
        ratios[other] = statistics.median(a / b for a, b in pairs) if pairs else None
    medians = {}
    for target in ("cairn", *OTHERS):
        figures = [each[target] for each in rounds if each.get(target)]
        medians[target] = statistics.median(figures) if figures else None
    judged = [ratios[other] is not None and ratios[other] >= goal
              for other, goal in goals.items()]
    return {"job": job.name, "title": job.title, "unit": job.unit, "goals": goals,
            "rounds": rounds, "medians": medians, "ratios": ratios,
            "met": all(judged) if judged else None}


def _number(value, digits=0):
    return "–" if value is None else f"{value:,.{digits}f}".replace(",", " ")


def table(summaries):
    """The Markdown table of one backing."""
    lines = ["| job | unit | Cairn | passthrough_ll | qsd | plain | / passthrough_ll | / qsd "
             "| / plain | goal | met |",
             "|---|---|--:|--:|--:|--:|--:|--:|--:|---|---|"]
    for each in summaries:
        unit = {"iops": "IOPS", "mibs": "MiB/s"}[each["unit"]]
        medians = [_number(each["medians"][t]) for t in ("cairn", *OTHERS)]
        ratios = [_number(each["ratios"][t], 2) for t in OTHERS]
        goal = " / ".join(f"{g:.2f}" for g in each["goals"].values()) or "–"
        met = {True: "yes", False: "**no**", None: "–"}[each["met"]]
        lines.append("| " + " | ".join([each["title"], unit, *medians, *ratios, goal, met]) + " |")
    return "\n".join(lines)


def document(run):
    """The section of one run: `run` is the record that also goes into the JSON file."""
    host = run["machine"]
    parts = [f"## {run['date']}, commit {run['commit']}", "",
             f"{host['cpu']}, {host['cores']} cores, Linux {host['kernel']}; "
             f"{run['rounds']} rounds of {run['seconds']} s, {run['size_mib']} MiB volume.", "",
             f"    {run['command']}", ""]
    for backing, summaries in run["backings"].items():
        if summaries:
            parts += [f"Backing: {backing}", "", table(summaries), ""]
    for name, title in (("scale", "Scale"), ("supervised", "Cost of replacement, on tmpfs"),
                        ("pause", "Pause by a killed server, on the disk")):
        if run.get(name):
            parts += [title, "", *(f"- {line}" for line in run[name]["lines"]), ""]
    if run.get("snapshot"):
        parts += ["Snapshots and clones", "", *snapshots.lines_of(run["snapshot"]), ""]
    if run["failures"]:
        parts += ["Not measured:", "", *(f"- {line}" for line in run["failures"]), ""]
    return "\n".join(parts)


def today():
    return datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z")


def append_results(path, section):
    """Adds a section at the end; sections that are there stay as they are."""
    if not os.path.exists(path):
        with open(path, "w", encoding="utf-8") as file:
            file.write(RESULTS_HEADER)
    with open(path, "a", encoding="utf-8") as file:
        file.write("\n" + section.rstrip() + "\n")
