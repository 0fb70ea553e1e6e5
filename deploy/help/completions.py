#!/usr/bin/env python3
"""completions.py PROGRAM bash|zsh|fish OUTPUT: what a shell completes, from what the program itself says."""

import os
import re
import sys

import help_text


def quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


def brief(text):
    """The first sentence or clause, for a line beside a name."""
    return re.split(r"[.;:] |[.;:]$", text, maxsplit=1)[0]


def takes_files(what):
    return bool(re.match(r"(files|FILE)\b", what))


# bash -----------------------------------------------------------------------------------------------------


def bash(top):
    values = []
    lists = []
    deeper = []
    for command in top.walk():
        name = " ".join(command.path)
        deeper += [quoted(" ".join(below.path)) for below in command.commands]
        for option in command.options:
            if not option.value:
                continue
            patterns = " | ".join(quoted(f"{name} {one}") for one in option.names)
            if option.choices:
                action = f"mapfile -t COMPREPLY < <(compgen -W {quoted(' '.join(option.choices))} -- \"$current\")"
            elif option.names_a_file or option.names_a_folder:
                kind = "-d" if option.names_a_folder else "-f"
                action = f"compopt -o filenames; mapfile -t COMPREPLY < <(compgen {kind} -- \"$current\")"
            else:
                action = "COMPREPLY=()"
            values.append(f"    {patterns}) {action}; return ;;")
        words = [one for option in command.options for one in option.names]
        lists.append(f"    {quoted(name)}) options={quoted(' '.join(words))}; "
                     f"commands={quoted(' '.join(below.name for below in command.commands))}; "
                     f"files={'yes' if any(takes_files(what) for what, _ in command.positionals) else 'no'} ;;")
    function = "_" + top.name.replace("-", "_")
    descend = f"      {' | '.join(deeper)}) command+=\" $word\" ;;\n" if deeper else ""
    loop = ('  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do\n    case "$command $word" in\n' + descend +
            "    esac\n  done\n") if deeper else ""
    return f"""# bash completion of {top.name}. Made from what it says for --help.
{function}() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} command={top.name}
  local word options commands files
{loop}  case "$command $previous" in
{chr(10).join(values)}
  esac
  case "$command" in
{chr(10).join(lists)}
  esac
  if [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
  elif [[ -n $commands ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$current")
  elif [[ $files == yes ]]; then
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi
}}
complete -F {function} {top.name}
"""


# zsh ------------------------------------------------------------------------------------------------------


def zsh_text(text):
    """Inside a specification of _arguments brackets and colons mean something."""
    return re.sub(r"([\[\]:\\])", r"\\\1", text)


def zsh_option(option):
    spec = f"[{zsh_text(brief(option.text))}]" if option.text else ""
    if option.value:
        if option.choices:
            action = "(" + " ".join(option.choices) + ")"
        elif option.names_a_folder:
            action = "_files -/"
        elif option.names_a_file:
            action = "_files"
        else:
            action = ""
        spec += f":{zsh_text(option.value)}:{action}"
    excluded = "(" + " ".join([*option.names, *option.excludes]) + ")"
    return [quoted(f"{excluded}{name}{spec}") for name in option.names]


def zsh_function(command):
    return "_" + "_".join(command.path).replace("-", "_")


def zsh(top):
    functions = []
    for command in reversed(list(top.walk())):
        specs = [spec for option in command.options for spec in zsh_option(option)]
        if command.commands:
            below = " ".join(f"{one.name}\\:{quoted_for_zsh(brief(one.about))}" for one in command.commands)
            specs += [quoted(f"1:command:(({below}))"), quoted("*::argument:->arguments")]
        elif any(takes_files(what) for what, _ in command.positionals):
            specs.append(quoted("*:file:_files"))
        else:
            specs += [quoted(f"*:{zsh_text(what.split()[0])}:") for what, _ in command.positionals]
        lines = [f"{zsh_function(command)}() {{"]
        if command.commands:
            lines.append('  local curcontext="$curcontext" state line')
        lines.append("  _arguments -s -C " + " \\\n    ".join(["", *specs]).lstrip() if command.commands
                     else "  _arguments -s \\\n    " + " \\\n    ".join(specs))
        if command.commands:
            lines.append("  [[ $state == arguments ]] || return\n  case $words[1] in")
            lines += [f"    {one.name}) {zsh_function(one)} ;;" for one in command.commands]
            lines.append("  esac")
        functions.append("\n".join(lines) + "\n}")
    return (f"#compdef {top.name}\n# zsh completion of {top.name}. Made from what it says for --help.\n\n" +
            "\n\n".join(functions) + f'\n\n{zsh_function(top)} "$@"\n')


def quoted_for_zsh(text):
    return '"' + re.sub(r'(["\\$`:()])', r"\\\1", text) + '"'


# fish -----------------------------------------------------------------------------------------------------


def fish_quoted(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish_condition(command):
    seen = "; and ".join(f"__fish_seen_subcommand_from {name}" for name in command.path[1:])
    if command.commands:
        others = " ".join(below.name for below in command.commands)
        seen += ("; and " if seen else "") + f"not __fish_seen_subcommand_from {others}"
    return f" -n {fish_quoted(seen)}" if seen else ""


def fish(top):
    lines = [f"# fish completion of {top.name}. Made from what it says for --help.", f"complete -c {top.name} -f"]
    for command in top.walk():
        condition = fish_condition(command)
        start = f"complete -c {top.name}{condition}"
        lines += [f"{start} -a {below.name} -d {fish_quoted(brief(below.about))}" for below in command.commands]
        if any(takes_files(what) for what, _ in command.positionals):
            lines.append(f"{start} -F")
        for option in command.options:
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            value = ""
            if option.choices:
                value = f" -x -a {fish_quoted(' '.join(option.choices))}"
            elif option.names_a_folder:
                value = " -x -a '(__fish_complete_directories)'"
            elif option.names_a_file:
                value = " -r -F"
            elif option.value:
                value = " -x"
            text = f" -d {fish_quoted(brief(option.text))}" if option.text else ""
            lines.append(f"{start} {names}{value}{text}")
    return "\n".join(lines) + "\n"


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}


def main(arguments):
    if len(arguments) != 3 or arguments[1] not in SHELLS:
        print(__doc__, file=sys.stderr)
        return 2
    program, shell, output = arguments
    text = SHELLS[shell](help_text.read([os.path.basename(program)], program))
    with open(output, "w", encoding="utf-8") as target:
        target.write(text)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (OSError, help_text.HelpError) as error:
        print(f"completions.py: {error}", file=sys.stderr)
        sys.exit(1)
