#!/bin/sh
# Called by Colosseum after it has replaced mandated_outcomes.json. Notes that, with the new contents.
root=${SPLITFL_ROOT:-}
{
    date "+%Y-%m-%dT%H:%M:%S%z update_outcomes"
    [ -r "$root/root/radio_api/mandated_outcomes.json" ] && cat "$root/root/radio_api/mandated_outcomes.json"
} >>"$root/logs/events.log"
exit 0
