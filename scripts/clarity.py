#!/usr/bin/env python3
"""Counts what makes the code hard to read for a newcomer, and compares it with bars.

    scripts/clarity.py [--list names|prose|circles|types]

Each figure has a goal and a limit. The limit is what was reached so far: a figure that is worse than its limit is an error, so that
what was won is not lost. Lower a limit when a figure gets better. Regular expressions read the Rust sources: the counts are good to a few
percent. Test code is left out.
"""
import argparse
import collections
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEST_FILES = {"tests.rs", "test.rs"}
TEST_DIRS = {"tests", "benches", "examples", "fuzz"}
TEST_MODULE = re.compile(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([^)]*\))?\s+)?mod \w+ \{")
NOT_CODE = re.compile(r"//[^\n]*|/\*.*?\*/|r(#*)\".*?\"\1|b?\"(?:\\.|[^\"\\])*\"|b?'(?:\\.|[^'\\\n])'", re.S)
TYPE = re.compile(r"^\s*(?:pub(?:\([^)]*\))?\s+)?(struct|enum|trait)\s+([A-Z]\w*)", re.M)
IMPL = re.compile(r"^impl(?:<[^{;]*?>)?\s+(?:[\w:<>, '&]+\s+for\s+)?([A-Z]\w*)", re.M)
# Names that say how a thing came about or where it is, and not what it is.
POINTING = re.compile(
    r"^([A-Z][a-z]+ed|Told|Said|Kept|Held|Found|Known|Seen|Shown|Begun|Taken|Made|Given|Written|Sent|Heard|Lost|Cut|Read|Whole|Way|Word"
    r"|Place|Look|Walk|Piece|What|Which|Whose|Ready|Idle|Rest|Room|Ground|Beside|Before|Left|Turn)$"
)
RIDDLES = {"told", "nobody", "whoever", "somebody", "stands", "anew"}

# name: (goal, limit). Lower is better for all of them.
BARS = {
    "type names of one word, %": (20, 2.5),
    "type names that are a participle or point, %": (1, 0.5),
    "type names defined in three or more places": (15, 0),
    "function names of one word, %": (40, 13),
    "riddle words per 10,000 words of comments": (3, 0.5),
    "circles of files inside crates": (6, 6),
    "files in the largest circle": (4, 4),
    "most methods of one type": (40, 40),
    "most fields of one struct": (15, 21),
    # The goal is of the features at the time of the review; what people got since then (a chat, revisions of agents, backups, contexts,
    # a configuration that changes live, answers in JSON, directories as workspaces and files by hand, suspended tenants, keys that make
    # any change repeatable, rights that are withdrawn from open calls, messages that join a turn, end it or are collected,
    # tenants that are deleted, channels as a port with files as the second one, tasks that runs spawn and their trees, tools for some
    # tenants and agents, lives with leases, sessions that are summarized, replies before the answer, wake-ups of one commit with
    # checkpoints, agents that leave their work to branches and workers, conclusions that are taken together, workers that people list,
    # steer and end, what goes on beside a chat, briefings) is above it. A change without a feature must not raise the limit.
    "lines of code": (84_000, 139_400),
    "lines of docs/architecture.md": (250, 250),
}


def sources():
    """Yields each source file with its text and its text without comments and literals."""
    for path in sorted((ROOT / "crates").rglob("*.rs")):
        inside = path.relative_to(ROOT / "crates")
        if TEST_DIRS & set(inside.parts) or path.name in TEST_FILES or path.name.endswith("_tests.rs"):
            continue
        text = path.read_text(encoding="utf-8")
        if found := TEST_MODULE.search(text):
            text = text[: found.start()]
        yield inside, text, NOT_CODE.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)), text)


def block(code, start):
    """Returns the text between the brace at `start` and the one that closes it."""
    depth = 0
    for at in range(start, len(code)):
        depth += {"{": 1, "}": -1}.get(code[at], 0)
        if depth == 0:
            return code[start + 1 : at]
    return code[start + 1 :]


def words(name):
    return len(re.findall(r"[A-Z][a-z0-9]*", name)) or 1


def imports(use, prefix=()):
    """Yields the paths of one `use` statement."""
    use = use.strip()
    if "{" not in use:
        yield (*prefix, *(part.strip() for part in use.split(" as ")[0].split("::") if part.strip()))
        return
    head, rest = use.split("{", 1)
    prefix = (*prefix, *(part.strip() for part in head.split("::") if part.strip()))
    depth, part = 0, ""
    for letter in rest[: rest.rfind("}")] + ",":
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            if part.strip():
                yield from imports(part, prefix)
            part = ""
        else:
            part += letter


def circles(graph):
    """Returns the sets of files that import one another in a circle (Tarjan), the largest first."""
    sys.setrecursionlimit(20_000)
    number, low, stack, found = {}, {}, [], []

    def visit(node):
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(sorted(part))

    for node in list(graph):
        if node not in number:
            visit(node)
    return sorted(found, key=len, reverse=True)


def file_graph(modules):
    """Returns which file of a crate uses which other one; a parent and its child count as one."""
    graph = collections.defaultdict(set)
    for module, code in modules.items():
        graph.setdefault(module, set())
        paths = [path for found in re.finditer(r"\buse\s+([^;]+);", code) for path in imports(re.sub(r"\s+", " ", found[1]))]
        paths += [(found[1], *filter(None, found[2].split("::"))) for found in re.finditer(r"\b(crate|super|self)((?:::\w+)+)", code)]
        for path in paths:
            base, rest = list(module), list(path)
            if rest and rest[0] == "crate":
                base = []
                rest = rest[1:]
            elif rest and rest[0] == "self":
                rest = rest[1:]
            elif rest and rest[0] == "super":
                while rest and rest[0] == "super":
                    base, rest = base[:-1], rest[1:]
            else:
                continue
            full = base + rest
            target = next((tuple(full[:n]) for n in range(len(full), 0, -1) if tuple(full[:n]) in modules), None)
            if target and target[: len(module)] != module and module[: len(target)] != target:
                graph[module].add(target)
    return graph


def measure():
    """Returns the figures, and the lines that say where they come from."""
    types, functions, lines, said, riddles = [], [], 0, 0, 0
    methods, fields, modules = collections.Counter(), collections.Counter(), collections.defaultdict(dict)
    where = collections.defaultdict(list)
    for path, text, code in sources():
        crate = path.parts[0]
        for number, line in enumerate(text.split("\n"), 1):
            line = line.strip()
            if line.startswith("//"):
                found = re.findall(r"[a-z']+", line.lower())
                said += len(found)
                if hits := sum(word in RIDDLES for word in found):
                    riddles += hits
                    where["prose"].append(f"{path}:{number}: {line}")
            elif line:
                lines += 1
        for found in TYPE.finditer(code):
            kind, name = found.groups()
            types.append(name)
            if words(name) == 1 or POINTING.match(name):
                where["names"].append(f"{path}: {name}")
            brace, semicolon = code.find("{", found.end()), code.find(";", found.end())
            if kind == "struct" and 0 <= brace and (semicolon < 0 or brace < semicolon):
                count = len(re.findall(r"^\s*(?:pub(?:\([^)]*\))?\s+)?\w+\s*:", block(code, brace), re.M))
                fields[f"{crate}::{name}"] = max(fields[f"{crate}::{name}"], count)
        for found in IMPL.finditer(code):
            brace = code.find("{", found.end())
            if brace >= 0 and " for " not in found.group(0):
                depth = 0
                for token in re.finditer(r"[{}]|\bfn\s+\w+", block(code, brace)):
                    depth += {"{": 1, "}": -1}.get(token.group(0), 0)
                    methods[f"{crate}::{found[1]}"] += token.group(0).startswith("fn") and depth == 0
        functions += re.findall(r"\bfn (\w+)", code)
        if "src" in path.parts:
            inside = path.relative_to(pathlib.Path(crate, "src"))
            module = () if inside.name in ("lib.rs", "main.rs") else inside.with_suffix("").parts
            modules[crate][module] = code
    loops = [(crate, loop) for crate in modules for loop in circles(file_graph(modules[crate]))]
    loops.sort(key=lambda found: -len(found[1]))
    where["circles"] = [f"{len(loop)} {crate}: " + " ".join("/".join(module) for module in loop) for crate, loop in loops]
    where["types"] = [f"{count} methods {name}" for name, count in methods.most_common(20)]
    where["types"] += [f"{count} fields {name}" for name, count in fields.most_common(20)]
    places = collections.Counter(types)
    figures = {
        "type names of one word, %": round(100 * sum(words(name) == 1 for name in types) / len(types), 1),
        "type names that are a participle or point, %": round(100 * sum(bool(POINTING.match(name)) for name in types) / len(types), 1),
        "type names defined in three or more places": sum(count >= 3 for count in places.values()),
        "function names of one word, %": round(100 * sum("_" not in name.strip("_") for name in functions) / len(functions), 1),
        "riddle words per 10,000 words of comments": round(10_000 * riddles / said, 1),
        "circles of files inside crates": len(loops),
        "files in the largest circle": len(loops[0][1]) if loops else 0,
        "most methods of one type": methods.most_common(1)[0][1],
        "most fields of one struct": fields.most_common(1)[0][1],
        "lines of code": lines,
        "lines of docs/architecture.md": (ROOT / "docs/architecture.md").read_text(encoding="utf-8").count("\n"),
    }
    return figures, where


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--list", choices=["names", "prose", "circles", "types"], help="print where a figure comes from")
    asked = arguments.parse_args().list
    figures, where = measure()
    if asked:
        print("\n".join(where[asked]))
        return
    print(f"{'':48}{'now':>8}{'limit':>8}{'goal':>8}")
    worse = []
    for name, (goal, limit) in BARS.items():
        now = figures[name]
        print(f"{name:48}{now:>8}{limit:>8}{goal:>8}{'' if now <= goal else '  not reached'}")
        if now > max(limit, goal):
            worse.append(name)
    if worse:
        sys.exit("worse than the limit in scripts/clarity.py: " + "; ".join(worse))


main()
