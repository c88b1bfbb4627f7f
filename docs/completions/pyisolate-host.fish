# fish completion for pyisolate-host; made by `pyisolate-host completion fish`
complete -c pyisolate-host -s c -l config -r -F -d 'the configuration (default: ./config.lua)'
complete -c pyisolate-host -l socket -r -F -d 'the control socket: of the running host; with run: to be made'
complete -c pyisolate-host -l log-format -x -a 'text logfmt json' -d 'default: text on a terminal, else logfmt'
complete -c pyisolate-host -l log-level -x -a 'debug info warning error' -d 'default: the configuration'\''s, else info'
complete -c pyisolate-host -s q -l quiet -d 'warnings and errors only; -qq errors only'
complete -c pyisolate-host -s v -l verbose -d 'more: debug messages, all versions'
complete -c pyisolate-host -s h -d 'short help'
complete -c pyisolate-host -l help -d 'full help, examples first'
complete -c pyisolate-host -s V -l version -d 'the version'
complete -c pyisolate-host -n __fish_use_subcommand -a call -d 'call a method of an extension of the running host'
complete -c pyisolate-host -n __fish_use_subcommand -a check -d 'check a configuration, starting nothing'
complete -c pyisolate-host -n __fish_use_subcommand -a completion -d 'print a shell'\''s completions'
complete -c pyisolate-host -n __fish_use_subcommand -a doctor -d 'show what this machine has and lacks, with remedies'
complete -c pyisolate-host -n __fish_use_subcommand -a help -d 'explain the program or one command'
complete -c pyisolate-host -n __fish_use_subcommand -a new -d 'write a first configuration and extension'
complete -c pyisolate-host -n __fish_use_subcommand -a restart -d 'restart one extension of the running host'
complete -c pyisolate-host -n __fish_use_subcommand -a run -d 'run a configuration; `run` itself may be left out'
complete -c pyisolate-host -n __fish_use_subcommand -a schema -d 'print the keys of a configuration, or types for editors'
complete -c pyisolate-host -n __fish_use_subcommand -a status -d 'show the running host and its extensions'
complete -c pyisolate-host -n __fish_use_subcommand -a stop -d 'stop the running host'
complete -c pyisolate-host -n __fish_use_subcommand -a sync -d 'build the environments, starting nothing'
complete -c pyisolate-host -n __fish_use_subcommand -a version -d 'print the version; -v: of everything, with paths'
complete -c pyisolate-host -n '__fish_seen_subcommand_from call' -l kwargs -x -d 'keyword arguments, an object'
complete -c pyisolate-host -n '__fish_seen_subcommand_from call' -l timeout -x -d 'give up, and cancel the call, after this time'
complete -c pyisolate-host -n '__fish_seen_subcommand_from call' -f -a '(pyisolate-host status --names 2>/dev/null)'
complete -c pyisolate-host -n '__fish_seen_subcommand_from check' -F
complete -c pyisolate-host -n '__fish_seen_subcommand_from completion' -f -a 'bash fish zsh'
complete -c pyisolate-host -n '__fish_seen_subcommand_from doctor' -l json -d 'for programs; names are stable'
complete -c pyisolate-host -n '__fish_seen_subcommand_from doctor' -f
complete -c pyisolate-host -n '__fish_seen_subcommand_from help' -f -a 'call check completion doctor help new restart run schema status stop sync version'
complete -c pyisolate-host -n '__fish_seen_subcommand_from new' -f
complete -c pyisolate-host -n '__fish_seen_subcommand_from restart' -l grace -x -d 'how long its calls in flight may take (default: stop_timeout)'
complete -c pyisolate-host -n '__fish_seen_subcommand_from restart' -f -a '(pyisolate-host status --names 2>/dev/null)'
complete -c pyisolate-host -n '__fish_seen_subcommand_from run' -F
complete -c pyisolate-host -n '__fish_seen_subcommand_from schema' -f -a 'markdown luals'
complete -c pyisolate-host -n '__fish_seen_subcommand_from status' -l json -d 'everything, for programs; names are stable'
complete -c pyisolate-host -n '__fish_seen_subcommand_from status' -l names -d 'only the names of the extensions, one a line'
complete -c pyisolate-host -n '__fish_seen_subcommand_from status' -f
complete -c pyisolate-host -n '__fish_seen_subcommand_from stop' -l grace -x -d 'how long calls in flight may take (default: stop_timeout)'
complete -c pyisolate-host -n '__fish_seen_subcommand_from stop' -l now -d 'kill the extensions at once'
complete -c pyisolate-host -n '__fish_seen_subcommand_from stop' -f
complete -c pyisolate-host -n '__fish_seen_subcommand_from sync' -F
complete -c pyisolate-host -n '__fish_seen_subcommand_from version' -l json -d 'for programs; names are stable'
complete -c pyisolate-host -n '__fish_seen_subcommand_from version' -f
