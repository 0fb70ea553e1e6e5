"""Reads what a program prints for --help (CLI11's form), its subcommands included."""

import dataclasses
import re
import subprocess

# CLI11 pads names to this column; what is longer has its description on the next line.
COLUMN = 30
# Names of CLI11's checks behind the name of a value: `N:UINT in [1 - 9]`.
CHECK = re.compile(r":(?=UINT|INT|FLOAT|SIZE|POSITIVE|\{)")


class HelpError(Exception):
    pass


@dataclasses.dataclass
class Option:
    names: list          # ["-h", "--help"]
    value: str = ""      # "FILE"; empty for a flag
    choices: list = dataclasses.field(default_factory=list)
    check: str = ""      # "UINT in [1 - 9]"
    default: str = ""
    environment: str = ""
    required: bool = False
    needs: list = dataclasses.field(default_factory=list)
    excludes: list = dataclasses.field(default_factory=list)
    text: str = ""

    @property
    def long_names(self):
        return [name for name in self.names if name.startswith("--")]

    @property
    def names_a_file(self):
        return self.value.rstrip("…. ") in ("FILE", "[HOST=]FILE", "PATH")

    @property
    def names_a_folder(self):
        return self.value == "DIR"


@dataclasses.dataclass
class Command:
    path: list           # ["keytrail", "keys", "new"]
    about: str = ""
    usage: str = ""
    positionals: list = dataclasses.field(default_factory=list)  # (what, text)
    options: list = dataclasses.field(default_factory=list)
    commands: list = dataclasses.field(default_factory=list)
    footer: str = ""

    @property
    def name(self):
        return self.path[-1]

    def walk(self):
        """This command and all below it."""
        yield self
        for command in self.commands:
            yield from command.walk()


def run(arguments):
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", timeout=60,
                          check=False)
    if done.returncode != 0:
        raise HelpError(f"{' '.join(arguments)}: exit status {done.returncode}: {done.stdout}")
    return done.stdout


def entries(lines):
    """(left, right) of each entry of a section."""
    found = []
    for line in lines:
        if line.startswith(" " * COLUMN):
            if not found:
                raise HelpError(f"a description without a name: {line!r}")
            found[-1][1].append(line.strip())
            continue
        padded = line[COLUMN - 1:COLUMN] == " " and (line[COLUMN - 2] == " " or not line[COLUMN:COLUMN + 1].islower())
        padded = padded and not line[COLUMN:].startswith(("-", "[", "("))
        if padded:
            found.append((line[:COLUMN].strip(), [line[COLUMN:].strip()]))
        else:
            found.append((line.strip(), []))
    return [(left, " ".join(right)) for left, right in found]


def option_of(left, text):
    names, _, rest = left.partition(" ")
    option = Option(names=names.split(","), text=text)
    for name in option.names:
        if not re.fullmatch(r"-[a-z]|--[a-z][a-z0-9-]*", name):
            raise HelpError(f"not the name of an option: {name!r} in {left!r}")
    words = rest.split()
    into = None
    value = []
    for word in words:
        if word == "Needs:":
            into = option.needs
        elif word == "Excludes:":
            into = option.excludes
        elif word == "REQUIRED":
            option.required = True
        elif into is not None:
            into.append(word)
        else:
            value.append(word)
    spec = " ".join(value)
    if environment := re.search(r"\(Env:(\w+)\)", spec):
        option.environment = environment[1]
        spec = spec.replace(environment[0], "").strip()
    spec, *check = CHECK.split(spec, maxsplit=1)
    if check:
        limits = check[0]
        # A default stands behind the choices: {text,html}=text.
        if choices := re.fullmatch(r"\{([^}]*)\}(?:=(\S+))?", limits):
            option.choices = choices[1].split(",")
            option.default = choices[2] or ""
        elif ":" in limits and "in [" in limits:
            option.check = limits[limits.rindex(":") + 1:]
        else:
            option.check = limits
    # NAME=VALUE is a form, AGE=24h a default.
    if default := re.fullmatch(r"([A-Z]+)=([^A-Z].*)", spec):
        spec, option.default = default[1], default[2]
    option.value = spec
    return option


def read(path, program):
    """The Command of `program` (a path) that is called by the names of `path`."""
    lines = run([program, *path[1:], "--help"]).splitlines()
    command = Command(path)
    sections = {}
    current = None
    footer = []
    for line in lines:
        if line.startswith("Usage: "):
            command.usage = line[len("Usage: "):]
        elif line in ("Options:", "Positionals:", "Subcommands:"):
            current = sections.setdefault(line[:-1], [])
        elif not line:
            current = None
        elif current is not None and line.startswith("  "):
            current.append(line)
        elif command.usage:
            footer.append(line)
        else:
            command.about += (" " if command.about else "") + line
    command.footer = "\n".join(footer)
    command.positionals = entries(sections.get("Positionals", []))
    command.options = [option_of(left, text) for left, text in entries(sections.get("Options", []))]
    for left, text in entries(sections.get("Subcommands", [])):
        below = read([*path, left], program)
        below.about = below.about or text
        command.commands.append(below)
    if not command.usage or not command.options:
        raise HelpError(f"{' '.join(path)} --help is not of CLI11's form")
    return command


def version(program):
    return run([program, "--version"]).split()[-1]
