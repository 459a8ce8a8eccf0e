"""Compares what a chaotic run of many turns left behind: journals, ledger, files, and what the provider saw.

`faults_of` is a pure function of what was collected and returns every contradiction as a line of text. Nothing here
talks to a server, so that a test can spoil what was collected and see that it is noticed.
"""

import itertools
from collections import Counter, defaultdict

# Millionths per million tokens; odd, so that rounding shows.
PRICE = {"input": 1_234_567, "output": 7_654_321}
# The calls of each step, by the turn's number modulo 4; `aimock.mjs` has the same table.
PLANS = {0: [], 1: [1], 2: [2], 3: [1, 1]}
# How an attempt must end that met this fault; without a code it must have answered.
CODES = {
    "drop": "model_unavailable",
    "ratelimit": "model_unavailable",
    "malformed": "model_cut",
    "disconnect": "model_cut",
    "truncate": "model_cut",
    "latency": None,
}
# The attempts of one turn, and of a hundred, that may have got lost on their way to the provider: a connection that it
# closes while a request is on its way takes the request along.
LOST_MAX = 4
LOST_PERCENT_MAX = 3
ENDS = {"run_completed": "completed", "run_failed": "failed"}


def faults_of(seen):
    """Every contradiction in what was collected; none where all is well."""
    faults = []
    asked = defaultdict(list)
    for request in seen["asked"]:
        asked[request["turn"]].append(request)
    if strangers := set(asked) - set(seen["turns"]):
        faults.append(f"the provider was asked about turns that nobody took: {sorted(strangers)}")
    owners = Counter(turn["run"] for turn in seen["turns"].values())
    faults += [f"{run} answers {count} turns" for run, count in owners.items() if count != 1]
    if extra := set(seen["runs"]) - set(owners):
        faults.append(f"runs that belong to no turn: {sorted(extra)}")
    for number, turn in seen["turns"].items():
        faults += [f"turn {number}, {turn['run']}: {fault}" for fault in _turn(seen, number, turn, asked[number])]
    attempts = sum(run["model_calls"] for run in seen["runs"].values())
    if attempts - len(seen["asked"]) > attempts * LOST_PERCENT_MAX / 100:
        faults.append(f"{attempts} attempts were made, and the provider saw only {len(seen['asked'])}")
    faults += _files(seen)
    faults += _sums(seen)
    return faults


def _turn(seen, number, turn, asked):
    run, entries = seen["runs"].get(turn["run"]), seen["journals"].get(turn["run"])
    if run is None or not entries:
        yield "it has no run or no journal"
        return
    kinds = [entry["kind"] for entry in entries]
    if [entry["seq"] for entry in entries] != list(range(1, len(entries) + 1)):
        yield "its journal has holes"
    end = ENDS.get(kinds[-1])
    if end is None or sum(kind in ENDS for kind in kinds) != 1:
        yield f"its journal ends with {kinds[-1]}"
    if not turn["status"] == run["status"] == end:
        yield f"it was answered as {turn['status']}, is listed as {run['status']}, and its journal says {end}"
    if end == "completed" and not turn["reply"].endswith(f"answer {number}, said at length to make several pieces of it"):
        yield f"it was answered with {turn['reply']!r}"
    if end == "failed" and entries[-1]["fields"]["code"] not in CODES.values():
        yield f"it failed with {entries[-1]['fields']['code']}"
    yield from _attempts(run, entries, asked)
    yield from _calls(number, entries, end)


def _paired(entries, asked):
    """Each attempt of a journal, how it ended, and the request that the provider saw, or none.

    Which attempts the provider did not see is what fits the faults that it says the others met.
    """
    began = [entry["fields"] for entry in entries if entry["kind"] == "model_called"]
    ended = [entry for entry in entries if entry["kind"] in ("model_replied", "model_failed")]
    count = len(began) - len(asked)
    if len(began) != len(ended) or not 0 <= count <= LOST_MAX:
        return None
    pairings = []
    for lost in itertools.combinations(range(len(began)), count):
        heard = iter(asked)
        requests = [None if at in lost else next(heard) for at in range(len(began))]
        pairings.append(list(zip(began, ended, requests)))
    return next((pairing for pairing in pairings if all(_fits(*attempt) for attempt in pairing)), pairings[0])


def _fits(_called, entry, request):
    code = entry["fields"].get("code")
    if request is None:
        return code in ("model_cut", "model_unavailable")
    return CODES[request["fault"]] == code


def _attempts(run, entries, asked):
    attempts = _paired(entries, asked)
    if attempts is None or len(attempts) != run["model_calls"]:
        kinds = Counter(entry["kind"] for entry in entries)
        yield (
            f"{kinds['model_called']} attempts began, {kinds['model_replied']} answered and {kinds['model_failed']} "
            f"failed, the provider saw {len(asked)}, and the run counts {run['model_calls']}"
        )
        return
    cost, tokens = 0, Counter()
    for called, entry, request in attempts:
        fields, place = entry["fields"], f"attempt {called['step']}.{called['attempt']}"
        if (fields["step"], fields["attempt"]) != (called["step"], called["attempt"]):
            yield f"{place} ended as {fields['step']}.{fields['attempt']}"
        if entry["kind"] == "model_replied":
            charged, due, code = fields["cost_micros"], _price(fields["usage"]), None
            tokens.update(fields["usage"])
            given = (request or {}).get("usage") or {}
            if list(fields["usage"].values()) != [given.get("prompt_tokens"), given.get("completion_tokens")]:
                yield f"{place} has the usage {fields['usage']}, and the provider reported {given}"
        else:
            charged, code = fields["charged_micros"], fields["code"]
            due = called["reserved_micros"] if code == "model_cut" else 0
        if not _fits(called, entry, request):
            yield f"{place} met {request and request['fault']} and ended with {code}"
        if charged != due:
            yield f"{place} cost {charged}, not {due}"
        if charged > called["reserved_micros"]:
            yield f"{place} cost {charged} and had reserved {called['reserved_micros']}"
        cost += charged
    if run["cost_micros"] != cost:
        yield f"its attempts cost {cost}, and the run says {run['cost_micros']}"
    if run["usage"] != {"input_tokens": tokens["input_tokens"], "output_tokens": tokens["output_tokens"]}:
        yield f"its attempts used {dict(tokens)}, and the run says {run['usage']}"


def _price(usage):
    micros = usage["input_tokens"] * PRICE["input"] + usage["output_tokens"] * PRICE["output"]
    return -(-micros // 1_000_000)


def _calls(number, entries, end):
    def count(kind):
        return Counter(str(entry["fields"]["call"]) for entry in entries if entry["kind"] == kind)

    started, finished, refused = count("tool_started"), count("tool_finished"), count("tool_refused")
    for call, times in (started + Counter()).items():
        if times != 1 or finished[call] != 1:
            yield f"call {call} was started {times} times and finished {finished[call]} times"
    if refused or set(finished) - set(started):
        yield f"calls were refused, or finished without a start: {dict(refused)}, {dict(finished - started)}"
    planned = sum(PLANS[number % 4])
    if sum(started.values()) > planned or (end == "completed" and sum(started.values()) != planned):
        yield f"{sum(started.values())} calls were started of the {planned} that its answers asked for"


def _files(seen):
    wanted = Counter()
    for number, turn in seen["turns"].items():
        entries = seen["journals"].get(turn["run"], [])
        finished = sum(entry["kind"] == "tool_finished" for entry in entries)
        wanted.update(f"{turn['agent']}: {number}.{index}" for index in range(finished))
    there = Counter(f"{agent}: {line}" for agent, lines in seen["lines"].items() for line in lines)
    for line in sorted((wanted - there) + (there - wanted)):
        yield f"the line {line!r} was written {there[line]} times, and {wanted[line]} times by the journals"


def _sums(seen):
    runs = list(seen["runs"].values())
    owed = {
        "model_calls": sum(run["model_calls"] for run in runs),
        "input_tokens": sum(run["usage"]["input_tokens"] for run in runs),
        "output_tokens": sum(run["usage"]["output_tokens"] for run in runs),
        "cost_micros": sum(run["cost_micros"] for run in runs),
        "unpriced_calls": sum(
            entry["fields"].get("unpriced", False)
            for entries in seen["journals"].values()
            for entry in entries
            if entry["kind"] == "model_called"
        ),
    }
    journaled = sum(
        entry["fields"].get("cost_micros", 0) + entry["fields"].get("charged_micros", 0)
        for entries in seen["journals"].values()
        for entry in entries
        if entry["kind"] in ("model_replied", "model_failed")
    )
    if journaled != owed["cost_micros"]:
        yield f"the journals add up to {journaled} micros, and the runs to {owed['cost_micros']}"
    for by, summary in seen["summaries"].items():
        groups = Counter()
        for group in summary["groups"]:
            groups.update(group["spent"])
        if summary["next"] is not None or summary["runs"] != len(runs):
            yield f"the summary by {by} counts {summary['runs']} of {len(runs)} runs"
        if not summary["total"] == dict(groups) == owed:
            yield f"the summary by {by} says {summary['total']}, its groups {dict(groups)}, and the runs {owed}"
