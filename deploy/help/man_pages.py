#!/usr/bin/env python3
"""man_pages.py PROGRAM TEMPLATE OUTPUT: fills a page of docs/man with what the program itself says.

@VERSION@, @SYNOPSIS@, @OPTIONS@ and @COMMANDS@ on lines of their own (@VERSION@ anywhere) are replaced; whatever
else stands in the template is man(7) source, written by hand."""

import os
import re
import sys

import help_text


def escaped(text):
    """Text as roff: nothing in it is a request, and a hyphen of an option stays one that can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    text = text.replace("^", "\\(ha").replace("~", "\\(ti")
    text = re.sub(r"[^\x00-\x7f]", lambda found: f"\\[u{ord(found[0]):04X}]", text)
    return "\n".join("\\&" + line if line.startswith(".") else line for line in text.splitlines())


def bold(text):
    return f"\\fB{escaped(text)}\\fR"


def italic(text):
    return f"\\fI{escaped(text)}\\fR"


def sentence(text):
    return text if text.endswith((".", "…")) else text + "."


def option(entry):
    head = ", ".join(bold(name) for name in entry.names)
    if entry.value:
        head += " " + italic(entry.value)
    text = [escaped(sentence(entry.text))] if entry.text else []
    if entry.choices:
        text.append("One of " + ", ".join(bold(choice) for choice in entry.choices) + ".")
    if limits := re.search(r"in \[(\S+) - (\S+)\]", entry.check):
        text.append(escaped(f"From {limits[1]} to {limits[2]}."))
    if entry.default:
        text.append("Default: " + bold(entry.default) + ".")
    if entry.environment:
        text.append("The environment's " + bold(entry.environment) + " is taken if it is not given.")
    if entry.required:
        text.append("Must be given.")
    if entry.needs:
        text.append("Only with " + ", ".join(bold(name) for name in entry.needs) + ".")
    if entry.excludes:
        text.append("Not with " + ", ".join(bold(name) for name in entry.excludes) + ".")
    return ".TP\n" + head + "\n" + "\n".join(text)


def options(command, skip=()):
    return "\n".join(option(entry) for entry in command.options if not set(entry.names) & set(skip))


def positional(what, text):
    words = [word for word in what.split() if word not in ("TEXT", "REQUIRED", "...", "files")]
    return ".TP\n" + italic(" ".join(words)) + "\n" + escaped(sentence(text))


def footer(command):
    return escaped(command.footer.replace("\n", " "))


def commands(top):
    """A section for each command; what several say below their options stands once, where it is said first."""
    parts = []
    said = {footer(top)}
    for command in top.walk():
        if command is top:
            continue
        parts.append(".SS " + escaped(" ".join(command.path)))
        parts.append(escaped(sentence(command.about)))
        if not command.commands:
            parts.append(".PP\n" + bold(" ".join(command.path)) + " " + escaped(
                command.usage[len(" ".join(command.path)):].strip()))
        parts.extend(positional(*entry) for entry in command.positionals)
        entries = options(command, skip=("--help",))
        if entries:
            parts.append(entries)
        if command.footer and footer(command) not in said:
            said.add(footer(command))
            parts.append(".PP\n" + footer(command))
    return "\n".join(parts)


def main(arguments):
    if len(arguments) != 3:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    program, template, output = arguments
    top = help_text.read([os.path.basename(program)], program)
    usage = bold(top.name) + " " + escaped(top.usage[len(top.name):].strip())
    filled = {"SYNOPSIS": usage, "OPTIONS": options(top), "COMMANDS": commands(top)}
    with open(template, encoding="utf-8") as source:
        page = source.read()
    page = page.replace("@VERSION@", help_text.version(program))
    for name, text in filled.items():
        page = re.sub(f"^@{name}@$", lambda _, text=text: text, page, flags=re.MULTILINE)
    if left := re.search(r"^@\w+@$", page, flags=re.MULTILINE):
        print(f"{template}: {left[0]} is not known", file=sys.stderr)
        return 1
    with open(output, "w", encoding="ascii") as target:
        target.write(page)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (OSError, UnicodeError, help_text.HelpError) as error:
        print(f"man_pages.py: {error}", file=sys.stderr)
        sys.exit(1)
