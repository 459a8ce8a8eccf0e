    # Names and ids that exist, from `dromia __complete`; everything else from below.
    local -a found
    found=("${(@f)$("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n ${found[1]} ]]; then
        compadd -V names -a found
        return
    fi

