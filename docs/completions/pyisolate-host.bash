# bash completion for pyisolate-host; made by `pyisolate-host completion bash`
_pyisolate_host() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= words= i
    [ "$cur" = = ] && cur=
    [ "$prev" = = ] && prev=${COMP_WORDS[COMP_CWORD-2]}
    local commands="call check completion doctor help new restart run schema status stop sync version"
    case $prev in
        --config|-c) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --socket) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --log-format) COMPREPLY=($(compgen -W "text logfmt json" -- "$cur")); return ;;
        --log-level) COMPREPLY=($(compgen -W "debug info warning error" -- "$cur")); return ;;
        --kwargs) return ;;
        --timeout) return ;;
        --grace) return ;;
        --grace) return ;;
    esac
    for ((i = 1; i < COMP_CWORD; i++)); do
        case " $commands " in *" ${COMP_WORDS[i]} "*) command=${COMP_WORDS[i]}; break ;; esac
    done
    local options=" --config= --socket= --log-format= --log-level= --quiet --verbose -h --help --version"
    case $command in
        call) options+=" --kwargs= --timeout=" ;;
        doctor) options+=" --json" ;;
        restart) options+=" --grace=" ;;
        status) options+=" --json --names" ;;
        stop) options+=" --grace= --now" ;;
        version) options+=" --json" ;;
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$cur"))
        [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
        return
    fi
    case $command in
        '') COMPREPLY=($(compgen -W "$commands" -- "$cur") $(compgen -f -X '!*.lua' -- "$cur")
                       $(compgen -d -- "$cur")); return ;;
        call) words="$("$1" status --names 2>/dev/null)" ;;
        check) COMPREPLY=($(compgen -f -X '!*.lua' -- "$cur") $(compgen -d -- "$cur")); return ;;
        completion) words="bash fish zsh" ;;
        doctor) words="" ;;
        help) words="$commands" ;;
        new) words="" ;;
        restart) words="$("$1" status --names 2>/dev/null)" ;;
        run) COMPREPLY=($(compgen -f -X '!*.lua' -- "$cur") $(compgen -d -- "$cur")); return ;;
        schema) words="markdown luals" ;;
        status) words="" ;;
        stop) words="" ;;
        sync) COMPREPLY=($(compgen -f -X '!*.lua' -- "$cur") $(compgen -d -- "$cur")); return ;;
        version) words="" ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o filenames -F _pyisolate_host pyisolate-host
