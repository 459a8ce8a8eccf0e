
# Names and ids that exist, from `dromia __complete`; everything else from above.
_dromia_live() {
    local found name
    found=$("${COMP_WORDS[0]}" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ -z $found ]]; then
        _dromia "$@"
        return
    fi
    COMPREPLY=()
    while IFS= read -r name; do
        COMPREPLY+=("$name")
    done <<< "$found"
}
complete -F _dromia_live -o nosort -o bashdefault -o default dromia 2>/dev/null ||
    complete -F _dromia_live -o bashdefault -o default dromia
