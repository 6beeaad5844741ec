r"""`odradek completion`: prints the script with which a shell completes the command's words.

Role: one short script for each shell, which passes the words typed so far to the command itself (cyclopts'
`__complete`) and shows its output. The parser that will read the line also completes it, so a topic whose name is that
of a command is completed as a topic. Names of topics, groups and profiles come from `completers`.

The script passes the words in CYCLOPTS_COMPLETION_WORDS, each followed by \x1f. A line of the output is a value, a tab
and a description; or it begins with \x1f and is about the other lines: `begin`, `files` (paths are suggested too),
`prefix` (the text up to `=`, which precedes each value).
"""

from __future__ import annotations

from typing import Literal

_BASH = r"""# odradek in bash: source <(odradek completion bash)
_odradek() {
  local current=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[0]} words line value prefix=
  type -P "$command" >/dev/null || command=odradek
  [[ $current == "=" ]] && current=
  printf -v words '%s\x1f' "${COMP_WORDS[@]:1:COMP_CWORD}"
  COMPREPLY=()
  while IFS= read -r line; do
    case $line in
      $'\x1fprefix\t'*) [[ $current == "${line#*$'\t'}"* ]] && prefix=${line#*$'\t'} ;;
      $'\x1ffiles')
        compopt -o filenames 2>/dev/null
        while IFS= read -r value; do COMPREPLY+=("$prefix$value"); done < <(compgen -f -- "${current#"$prefix"}")
        ;;
      $'\x1f'* | "") ;;
      *)
        printf -v value '%q' "${line%%$'\t'*}"
        COMPREPLY+=("$prefix$value")
        ;;
    esac
  done < <(CYCLOPTS_COMPLETION_WORDS=$words "$command" __complete 2>/dev/null)
}
complete -F _odradek odradek
"""

_ZSH = r"""#compdef odradek
# odradek in zsh: source <(odradek completion zsh), behind compinit
_odradek() {
  local line word given= files=
  local -a values shown
  for word in "${(@)words[2,CURRENT]}"; do given+="$word"$'\x1f'; done
  for line in "${(@f)$(CYCLOPTS_COMPLETION_WORDS=$given ${words[1]} __complete 2>/dev/null)}"; do
    case $line in
      ($'\x1fprefix\t'*) compset -P '*=' ;;
      ($'\x1ffiles') files=yes ;;
      ($'\x1f'*|"") ;;
      (*)
        values+=("${line%%$'\t'*}")
        shown+=("${line/$'\t'/  -- }")
        ;;
    esac
  done
  compadd -l -d shown -a values
  [[ -n $files ]] && _files
}
if [[ $funcstack[1] == _odradek ]]; then _odradek "$@"; else compdef _odradek odradek; fi
"""

_FISH = r"""# odradek in fish: odradek completion fish > ~/.config/fish/completions/odradek.fish
function __odradek_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l given
    for word in $words[2..-1] "$current"
        set given "$given$word"\x1f
    end
    set -l prefix
    for line in (CYCLOPTS_COMPLETION_WORDS=$given $words[1] __complete 2>/dev/null)
        if string match -q \x1fprefix\t'*' -- $line
            set prefix (string split -m 1 \t -- $line)[2]
        else if test "$line" = \x1ffiles
            __fish_complete_path "$current"
        else if test -n "$line"; and not string match -q \x1f'*' -- $line
            echo "$prefix$line"
        end
    end
end
complete -c odradek -f -a '(__odradek_complete)'
"""


def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Prints the script that completes this command's words in a shell.

    Parameters
    ----------
    shell
        bash, zsh or fish.
    """
    print({"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[shell], end="")
