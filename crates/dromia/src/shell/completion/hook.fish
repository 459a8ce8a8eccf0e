
# Names and ids that exist.
function __dromia_live
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    command $words[1] __complete -- $words[2..-1] "$current" 2>/dev/null
end
complete -c dromia -k -a '(__dromia_live)'
