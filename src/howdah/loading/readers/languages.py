"""Which programming language a source file is written in, by its name or its first line.

The names are those of GitHub's Linguist.
Source: https://github.com/github-linguist/linguist/blob/main/lib/linguist/languages.yml
"""

from __future__ import annotations

import re

__all__ = ["language_of"]

_BY_SUFFIX = {
    **dict.fromkeys((".adb", ".ads"), "Ada"),
    **dict.fromkeys((".asm", ".s"), "Assembly"),
    ".awk": "Awk",
    **dict.fromkeys((".bat", ".cmd"), "Batchfile"),
    **dict.fromkeys((".c", ".h"), "C"),
    **dict.fromkeys((".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx", ".ipp"), "C++"),
    ".cs": "C#",
    ".cl": "Common Lisp",
    **dict.fromkeys((".clj", ".cljc", ".cljs", ".edn"), "Clojure"),
    ".cmake": "CMake",
    **dict.fromkeys((".cob", ".cbl"), "COBOL"),
    ".coffee": "CoffeeScript",
    ".cr": "Crystal",
    **dict.fromkeys((".css", ".scss", ".less", ".sass"), "CSS"),
    ".cu": "Cuda",
    ".d": "D",
    ".dart": "Dart",
    ".el": "Emacs Lisp",
    **dict.fromkeys((".ex", ".exs"), "Elixir"),
    ".elm": "Elm",
    **dict.fromkeys((".erl", ".hrl"), "Erlang"),
    **dict.fromkeys((".fs", ".fsi", ".fsx"), "F#"),
    **dict.fromkeys((".f", ".f77", ".f90", ".f95", ".f03", ".f08", ".for"), "Fortran"),
    ".go": "Go",
    **dict.fromkeys((".gradle", ".groovy"), "Groovy"),
    **dict.fromkeys((".graphql", ".gql"), "GraphQL"),
    **dict.fromkeys((".hs", ".lhs"), "Haskell"),
    **dict.fromkeys((".hcl", ".tf"), "HCL"),
    ".java": "Java",
    **dict.fromkeys((".js", ".mjs", ".cjs", ".jsx"), "JavaScript"),
    ".jl": "Julia",
    **dict.fromkeys((".kt", ".kts"), "Kotlin"),
    ".lisp": "Common Lisp",
    ".lua": "Lua",
    **dict.fromkeys((".mk", ".mak"), "Makefile"),
    ".nim": "Nim",
    ".nix": "Nix",
    **dict.fromkeys((".m", ".mm"), "Objective-C"),
    **dict.fromkeys((".ml", ".mli"), "OCaml"),
    **dict.fromkeys((".pas", ".dpr"), "Pascal"),
    **dict.fromkeys((".pl", ".pm"), "Perl"),
    ".php": "PHP",
    **dict.fromkeys((".pls", ".plb", ".pks", ".pkb"), "PLSQL"),
    ".proto": "Protocol Buffer",
    **dict.fromkeys((".ps1", ".psm1", ".psd1"), "PowerShell"),
    **dict.fromkeys((".py", ".pyi", ".pyw", ".pyx"), "Python"),
    ".r": "R",
    **dict.fromkeys((".rb", ".rake", ".gemspec"), "Ruby"),
    ".rs": "Rust",
    ".sas": "SAS",
    **dict.fromkeys((".scala", ".sbt"), "Scala"),
    **dict.fromkeys((".scm", ".ss"), "Scheme"),
    **dict.fromkeys((".sh", ".bash", ".zsh", ".ksh"), "Shell"),
    ".sol": "Solidity",
    **dict.fromkeys((".sql", ".ddl", ".psql"), "SQL"),
    ".swift": "Swift",
    ".tcl": "Tcl",
    **dict.fromkeys((".ts", ".tsx", ".mts", ".cts"), "TypeScript"),
    **dict.fromkeys((".vb", ".bas", ".vbs"), "Visual Basic"),
    **dict.fromkeys((".v", ".sv", ".svh"), "Verilog"),
    **dict.fromkeys((".vhd", ".vhdl"), "VHDL"),
    ".vue": "Vue",
    ".zig": "Zig",
}
_BY_NAME = {
    "cmakelists.txt": "CMake",
    "dockerfile": "Dockerfile",
    "containerfile": "Dockerfile",
    "gemfile": "Ruby",
    "rakefile": "Ruby",
    "gnumakefile": "Makefile",
    "makefile": "Makefile",
    "jenkinsfile": "Groovy",
    "vagrantfile": "Ruby",
}
_INTERPRETERS = {
    **dict.fromkeys(("sh", "bash", "dash", "ksh", "zsh"), "Shell"),
    **dict.fromkeys(("awk", "gawk", "mawk"), "Awk"),
    **dict.fromkeys(("node", "nodejs", "bun"), "JavaScript"),
    **dict.fromkeys(("deno", "ts-node"), "TypeScript"),
    "julia": "Julia",
    "lua": "Lua",
    "make": "Makefile",
    "perl": "Perl",
    "php": "PHP",
    "pwsh": "PowerShell",
    **dict.fromkeys(("python", "pypy"), "Python"),
    "rscript": "R",
    "ruby": "Ruby",
    **dict.fromkeys(("tclsh", "wish"), "Tcl"),
}
_SHEBANG = re.compile(
    r"#![ \t]*(?:\S*/)?(?:env(?:[ \t]+-\S+|[ \t]+\w+=\S*)*[ \t]+(?:\S*/)?)?([A-Za-z-]+)"
)


def language_of(name: str, start: str) -> str | None:
    """Return the programming language of a text; None where it is no source code.

    Args:
        name: The file's name, without folders.
        start: The text's start, its first line at least.
    """
    lowered = name.lower()
    if named := _BY_NAME.get(lowered):
        return named
    stem, dot, suffix = lowered.rpartition(".")
    if dot and stem and (known := _BY_SUFFIX.get(f".{suffix}")):
        return known
    found = _SHEBANG.match(start)
    return _INTERPRETERS.get(found[1].lower().rstrip("-")) if found else None
