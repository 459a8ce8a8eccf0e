"""Says how many planted faults the tests of a crate noticed, and whether what they missed is explained.

    mutants.py LISTED OUTCOMES EXPLAINED

Exits with 1 where fewer than nine of ten are noticed or explained, where an explanation explains nothing any more, and where
not every fault was tried.
"""

import json
import re
import sys
from collections import Counter

WANTED = 0.9
NOTICED = ("CaughtMutant", "Timeout")


def name(fault):
    """A fault without its line, which moves."""
    return re.sub(r"^[^:]+:\d+:\d+: ", "", fault["name"])


def explained(path):
    """The explanations, by file and fault."""
    found = {}
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        if line.startswith("#") or not line.strip():
            continue
        parts = line.rstrip("\n").split("\t")
        if len(parts) != 3 or not all(parts):
            sys.exit(f"{path}:{number}: a line is a file, a fault and a reason, with tabs between them")
        found[parts[0], parts[1]] = parts[2]
    return found


def judge(listed, outcomes, reasons):
    """Counts what came of each fault; gives the lines to print and whether it is enough."""
    ends, missed = Counter(), []
    for outcome in outcomes:
        fault = outcome["scenario"]
        if isinstance(fault, dict):
            fault = fault["Mutant"]
            ends[outcome["summary"]] += 1
            if outcome["summary"] == "MissedMutant":
                missed.append((fault["file"], name(fault)))
    known = [key for key in missed if key in reasons]
    unknown = [key for key in missed if key not in reasons]
    tried = sum(ends[end] for end in NOTICED) + len(missed)
    untried = len(listed) - sum(ends.values())
    share = (tried - len(unknown)) / tried if tried else 0.0
    lines = [f"missed: {file}: {fault}" for file, fault in unknown]
    # Only what was tried whole tells that an explanation is stale.
    files = {fault["file"] for fault in listed}
    stale = [key for key in reasons if key[0] in files and key not in missed] if not untried else []
    lines += [f"explains nothing: {file}: {fault}" for file, fault in stale]
    lines.append(
        f"caught {ends['CaughtMutant']}, timeouts {ends['Timeout']}, missed {len(unknown)}, explained {len(known)}, "
        f"unviable {ends['Unviable']}, not tried {untried}: {100 * share:.1f} % of {tried} noticed or explained"
    )
    return lines, share >= WANTED and not stale and not untried


def main(listed, outcomes, reasons):
    with open(listed, encoding="utf-8") as file:
        listed = json.load(file)
    try:
        with open(outcomes, encoding="utf-8") as file:
            outcomes = json.load(file)["outcomes"]
    except FileNotFoundError:
        sys.exit("nothing was tried")
    lines, is_enough = judge(listed, outcomes, explained(reasons))
    print("\n".join(lines))
    return 0 if is_enough else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
