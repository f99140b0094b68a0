#!/bin/sh
# Called by Colosseum when the scenario jumps, as at a reset. Notes that.
date "+%Y-%m-%dT%H:%M:%S%z scenario_discontinuity" >>"${SPLITFL_ROOT:-}/logs/events.log"
exit 0
