/**
 * What a shell reads to complete `vmctl`. Each script asks `vmctl __complete`, with the words before the cursor as
 * arguments, the unfinished one last. It answers with a candidate a line, its description behind a tab; the line `:files`
 * asks the shell to complete paths as well.
 */

export type Shell = 'bash' | 'zsh' | 'fish';

const BASH = `# bash completion of vmctl. Try it with: source <(vmctl completion bash)
_vmctl() {
  local line words
  # Words as a person sees them: readline breaks at ":" and "=", too.
  read -r -a words <<< "\${COMP_LINE:0:COMP_POINT}"
  [[ "\${COMP_LINE:0:COMP_POINT}" == *[[:space:]] ]] && words+=("")
  local current="\${words[-1]}"
  local files=0
  COMPREPLY=()
  while IFS= read -r line; do
    if [[ "$line" == ":files" ]]; then files=1; continue; fi
    line="\${line%%$'\\t'*}"
    [[ "$line" == "$current"* ]] && COMPREPLY+=("$line")
  done < <("\${words[0]}" __complete "\${words[@]:1}" 2>/dev/null)
  # readline replaces only what stands behind the last ":".
  local i
  if [[ "$current" == *:* && "$COMP_WORDBREAKS" == *:* ]]; then
    for i in "\${!COMPREPLY[@]}"; do COMPREPLY[i]="\${COMPREPLY[i]#"\${current%"\${current##*:}"}"}"; done
  fi
  [[ "\${#COMPREPLY[@]}" -eq 1 && "\${COMPREPLY[0]}" == *: ]] && compopt -o nospace
  if [[ $files -eq 1 ]]; then
    compopt -o filenames
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$current")
  fi
}
complete -F _vmctl vmctl
`;

const ZSH = `#compdef vmctl
# zsh completion of vmctl. Try it with: source <(vmctl completion zsh)
_vmctl() {
  local line word files=0
  local -a candidates
  while IFS= read -r line; do
    if [[ "$line" == ":files" ]]; then files=1; continue; fi
    word="\${line%%$'\\t'*}"
    word="\${word//:/\\\\:}"
    [[ "$line" == *$'\\t'* ]] && word+=":\${line#*$'\\t'}"
    candidates+=("$word")
  done < <("\${words[1]}" __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)
  (( \${#candidates} )) && _describe -V vmctl candidates
  (( files )) && _files
}
if [ "$funcstack[1]" = "_vmctl" ]; then _vmctl "$@"; else compdef _vmctl vmctl; fi
`;

const FISH = `# fish completion of vmctl. Try it with: vmctl completion fish | source
function __vmctl_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    for line in ($program __complete $words "$current" 2>/dev/null)
        if test "$line" = ":files"
            __fish_complete_path "$current"
        else
            echo $line
        end
    end
end
# fish itself brings completions for another vmctl, that of OpenBSD: loaded first, so that they can be forgotten.
complete -C 'vmctl ' >/dev/null 2>&1
complete -c vmctl -e
complete -c vmctl -f -a '(__vmctl_complete)'
`;

export const COMPLETION_SCRIPTS: Readonly<Record<Shell, string>> = { bash: BASH, zsh: ZSH, fish: FISH };
