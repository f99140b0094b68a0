#!/bin/sh
# Called by Colosseum after it has replaced environment.json. Notes that, with the new contents.
root=${SPLITFL_ROOT:-}
{
    date "+%Y-%m-%dT%H:%M:%S%z update_environment"
    [ -r "$root/root/radio_api/environment.json" ] && cat "$root/root/radio_api/environment.json"
} >>"$root/logs/events.log"
exit 0
