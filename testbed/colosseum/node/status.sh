#!/bin/sh
# Called by Colosseum at any time. Prints the state that splitfl-radio wrote last; starts no other program.
state=${SPLITFL_ROOT:-}/run/splitfl
line='{"STATUS": "ERROR", "INFO": "splitfl-radio has not started"}'
{
    if read -r pid <"$state/pid" && read -r said <"$state/status"; then
        line=$said
        case $line in
            *'"FINISHED"'*) ;;
            *) kill -0 "$pid" || line='{"STATUS": "ERROR", "INFO": "splitfl-radio has ended"}' ;;
        esac
    fi
} 2>/dev/null
printf '%s\n' "$line"
exit 0
